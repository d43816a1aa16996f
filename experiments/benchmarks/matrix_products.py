"""How fast the device multiplies matrices: what an update's own rate is held against."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SECONDS = 0.2  # of a timed repeat
MAX_ROWS = 65_536  # of all matrices at once, so that they fit in memory


class Product(NamedTuple):
    """(m, k) times (k, n) matrices, `batch` of them at once."""

    m: int
    k: int
    n: int
    batch: int = 1

    @property
    def operations(self) -> float:
        """Floating-point ones, two for each number multiplied and added."""
        return 2.0 * self.batch * self.m * self.k * self.n

    def __str__(self) -> str:
        return f"{self.batch} × " * (self.batch > 1) + f"{self.m}×{self.k}×{self.n}"


def dominant_product(function: Callable, *args: Any) -> Product:
    """The shape on which a function, as written, spends the most operations."""
    operations = Counter()
    for product, times in _products(jax.make_jaxpr(function)(*args)):
        operations[product] += times * product.operations
    return operations.most_common(1)[0][0]


def _products(jaxpr: Any) -> Iterator[tuple[Product, int]]:
    """Each with how often it is taken."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batched, _) = equation.params["dimension_numbers"]
            left, right = (variable.aval for variable in equation.invars)
            batch = math.prod(left.shape[i] for i in batched)
            k = math.prod(left.shape[i] for i in contracted)
            yield Product(left.size // (batch * k), k, right.size // (batch * k), batch), 1
        length = equation.params.get("length", 1)  # of a scan
        for inner in jax.tree.leaves(tuple(equation.params.values())):
            if hasattr(inner, "eqns"):
                yield from ((product, length * times) for product, times in _products(inner))


class TimedProduct:
    """XLA's own float32 product, chained: each takes the one before, so that none is left out or
    taken out of the loop. With k ≠ n every other one is its mirror image (m, n) × (n, k).

    Attributes:
      product: Its shape.
    """

    def __init__(self, product: Product):
        """Compiles it and finds how many make up `SECONDS`."""
        self.product = product
        m, k, n, batch = product
        x_key, key = jax.random.split(jax.random.key(0))
        # Orthonormal, so that numbers neither grow nor vanish however often they are multiplied.
        there = jnp.linalg.qr(jax.random.normal(key, (max(k, n), min(k, n))))[0]
        there = there if k >= n else there.T
        self._matrices = jax.random.normal(x_key, (m, k)), there, there.T
        if batch > 1:
            self._matrices = [jnp.tile(matrix, (batch, 1, 1)) for matrix in self._matrices]
        self._seconds(1)  # compiles
        count = 1
        while (spent := self._seconds(count)) < SECONDS / 4:
            count *= 4
        self._count = max(1, round(count * SECONDS / spent))

    def rate(self) -> float:
        """Operations a second, measured now."""
        return 2 * self._count * self.product.operations / self._seconds(self._count)

    def _seconds(self, count: int) -> float:
        clock = time.perf_counter()
        jax.block_until_ready(_chain(count, *self._matrices))
        return time.perf_counter() - clock


def fastest(product: Product, num_runs: int) -> TimedProduct:
    """The product alone or as often at once as `num_runs` updates do it, within `MAX_ROWS`,
    whichever is faster."""
    batch = max(1, min(product.batch * num_runs, MAX_ROWS // product.m))
    timed = [TimedProduct(product._replace(batch=b)) for b in {1, batch}]
    return max(timed, key=TimedProduct.rate) if batch > 1 else timed[0]


@jax.jit
def _chain(count: int, x: jax.Array, there: jax.Array, back: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, count, lambda _, x: (x @ there) @ back, x)
