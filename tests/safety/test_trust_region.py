"""The natural gradient, where Fisher's matrix is known, and the line search."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from offrl_jax.losses.divergences import gaussian_kl
from offrl_jax.safety import trust_region

LOG_STD = jnp.array([-0.7, 0.2, 0.0])
ANALYTIC = np.diag(np.concatenate([np.exp(-2 * LOG_STD), np.full(3, 2.0)]))  # μ, then log σ
START, UNRAVEL = ravel_pytree({"a_mean": jnp.array([0.3, -0.1, 2.0]), "log_std": LOG_STD})


def kl(params):
    """KL(π_old‖π) of one Gaussian, by its mean and log σ."""
    new, old = UNRAVEL(params), UNRAVEL(START)
    return gaussian_kl(old["a_mean"], old["log_std"], new["a_mean"], new["log_std"])


def test_the_product_is_fishers_matrix_of_a_gaussian():
    """The μ-block is 1/σ², that of log σ is 2."""
    product = jax.vmap(partial(trust_region.fisher_product, kl, START))(jnp.eye(6))
    np.testing.assert_allclose(product, ANALYTIC, atol=1e-5)
    damped = trust_region.fisher_product(kl, START, jnp.ones(6), 0.5)
    np.testing.assert_allclose(damped, ANALYTIC.sum(1) + 0.5, rtol=1e-5)


def test_the_conjugate_gradient_solves_it():
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
    product = partial(trust_region.fisher_product, kl, START)
    x = trust_region.conjugate_gradient(product, gradient, 6)
    np.testing.assert_allclose(x, np.linalg.solve(ANALYTIC, gradient), rtol=1e-4)
    nothing = trust_region.conjugate_gradient(product, jnp.zeros(6), 6)
    assert np.isfinite(nothing).all() and not nothing.any()


def test_it_solves_any_positive_system():
    root = np.random.default_rng(1).normal(size=(8, 8))
    matrix = jnp.asarray(root @ root.T + np.eye(8), jnp.float32)
    target = jnp.arange(8.0)
    x = trust_region.conjugate_gradient(lambda v: matrix @ v, target, 8)
    np.testing.assert_allclose(matrix @ x, target, atol=1e-2)


@pytest.mark.parametrize("limit", [1e-4, 1e-2])
def test_the_step_has_the_kl_of_its_limit(limit):
    gradient = jnp.array([1.0, -0.5, 0.2, 0.1, -0.3, 0.6])
    product = partial(trust_region.fisher_product, kl, START)
    step = trust_region.natural_step(gradient, product, limit, 10)
    assert float(kl(START + step)) == pytest.approx(limit, rel=0.15)
    assert float(step @ product(step)) / 2 == pytest.approx(limit, rel=1e-4)
    assert float(gradient @ step) > 0


def search(allowed, num_tries=20):
    return trust_region.backtrack(jnp.zeros(2), jnp.ones(2), allowed, 0.7, num_tries)


def test_backtracking_takes_the_first_length_that_is_allowed():
    line = search(lambda x: x[0] <= 0.4)
    assert bool(line.accepted) and int(line.num_refused) == 3
    np.testing.assert_allclose(line.params, 0.7**3, rtol=1e-6)
    whole = search(lambda x: x[0] <= 1.0)
    assert int(whole.num_refused) == 0


@pytest.mark.parametrize("allowed", [lambda x: x[0] < 0, lambda x: jnp.nan * x[0] < 1])
def test_where_no_length_is_allowed_nothing_changes(allowed):
    line = search(allowed)
    assert not bool(line.accepted) and int(line.num_refused) == 20
    np.testing.assert_array_equal(line.params, 0)
