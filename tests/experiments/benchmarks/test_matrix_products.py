"""Which product dominates a function, and the loop that products are timed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import matrix_products
from experiments.benchmarks.matrix_products import Product, TimedProduct, dominant_product, fastest
from experiments.benchmarks.operations import matrix_operations


def test_the_dominant_product_is_found_inside_of_loops_and_batches():
    def function(x, small, large):
        def step(x, _):
            return jax.jit(jax.vmap(jnp.matmul))(x, large) @ small, None

        return jax.lax.scan(step, x, length=2)[0]

    x, small, large = jnp.ones((3, 8, 4)), jnp.ones((16, 4)), jnp.ones((3, 4, 16))
    assert dominant_product(lambda x: x @ x.T, jnp.ones((5, 7))) == Product(5, 7, 5)
    assert dominant_product(function, x, small, large) in (
        Product(8, 4, 16, batch=3),
        Product(24, 16, 4),
    )
    assert dominant_product(function, x, small, large).operations == 2 * 3 * 8 * 4 * 16
    wide = jnp.ones((3, 4, 160)), jnp.ones((160, 4))
    assert dominant_product(lambda x: (x @ wide[0])[..., :16] @ small, x) == Product(8, 4, 160, 3)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("k", "n"), [(16, 16), (16, 24), (24, 16)])
def test_timed_products_stay_in_their_loop_and_keep_their_size(monkeypatch, batch, k, n):
    chains = []
    chain = matrix_products._chain

    def recorded(*arguments):
        chains.append(arguments)
        return chain(*arguments)

    monkeypatch.setattr(matrix_products, "_chain", recorded)
    monkeypatch.setattr(matrix_products, "SECONDS", 0.002)
    rate = TimedProduct(Product(8, k, n, batch)).rate()
    assert np.isfinite(rate) and rate > 0
    _, x, there, back = chains[-1]
    assert x.size == batch * 8 * k and there.size == back.size == batch * k * n
    with pytest.raises(ValueError, match="loop of unknown length"):  # they are counted in none else
        matrix_operations(chain.lower(3, x, there, back).compile())
    once, often = (jnp.linalg.norm(chain(count, x, there, back)) for count in (1, 1000))
    np.testing.assert_allclose(once, often, rtol=1e-3)


def test_the_faster_of_one_and_of_all_at_once_counts(monkeypatch):
    rates = {1: 5.0, 8: 9.0, 32: 4.0}
    monkeypatch.setattr(TimedProduct, "_seconds", lambda self, count: 1.0)
    monkeypatch.setattr(TimedProduct, "rate", lambda self: rates[self.product.batch])
    product = Product(2048, 4, 4, batch=2)
    assert fastest(product, 4).product == Product(2048, 4, 4, 8)
    assert fastest(product, 64).product == Product(2048, 4, 4)  # of 32 at most
    assert fastest(Product(100_000, 4, 4), 64).product == Product(100_000, 4, 4)


def test_the_rate_counts_both_products_of_a_link(monkeypatch):
    monkeypatch.setattr(TimedProduct, "_seconds", lambda self, count: 0.001 * count)
    timed = TimedProduct(Product(8, 16, 4))
    assert timed.rate() == pytest.approx(2 * (2 * 8 * 16 * 4) / 0.001)
