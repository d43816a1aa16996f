"""The natural gradient's step: conjugate gradient on Fisher-vector products, and backtracking.

Source: Schulman et al. 2015, arXiv:1502.05477 (TRPO), appendix C; with the accident surrogate of
Bharadhwaj et al. 2021, arXiv:2010.14497, among what a step must hold.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Bool, Float, Int, Scalar

_TINY = 1e-12


class Line(NamedTuple):
    """Where a line search ended.

    Attributes:
      params: The new parameters, or the old ones.
      accepted: Whether a step was taken.
      num_refused: Lengths that were refused.
    """

    params: Float[Array, "P"]
    accepted: Bool[Array, ""]
    num_refused: Int[Array, ""]


def fisher_product(
    kl: Callable, params: Float[Array, "P"], vector: Float[Array, "P"], damping: Scalar = 0.0
) -> Float[Array, "P"]:
    """(F + damping) v with F = ∇²_θ KL(π_old‖π_θ) at θ = θ_old, which is Fisher's matrix.

    Args:
      kl: θ -> KL(π_old‖π_θ), averaged over states.
      params: θ_old.
      vector: v.
      damping: Added to F's diagonal.
    """
    return jax.jvp(jax.grad(kl), (params,), (vector,))[1] + damping * vector


def conjugate_gradient(
    product: Callable, target: Float[Array, "P"], num_steps: int
) -> Float[Array, "P"]:
    """x with F x = g, for v -> F v symmetric and positive; exact after P steps but for rounding.

    Source: Hestenes and Stiefel 1952.
    """

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        x, residual, direction, square = carry
        image = product(direction)
        length = square / jnp.maximum(jnp.vdot(direction, image), _TINY)
        x, residual = x + length * direction, residual - length * image
        new_square = jnp.vdot(residual, residual)
        direction = residual + new_square / jnp.maximum(square, _TINY) * direction
        return (x, residual, direction, new_square), None

    start = jnp.zeros_like(target), target, target, jnp.vdot(target, target)
    return jax.lax.scan(step, start, None, length=num_steps)[0][0]


def natural_step(
    gradient: Float[Array, "P"], product: Callable, kl_limit: Scalar, num_steps: int
) -> Float[Array, "P"]:
    """√( 2 δ / xᵀ F x ) x with F x = g: the longest step uphill whose KL is δ, to second order."""
    x = conjugate_gradient(product, gradient, num_steps)
    return jnp.sqrt(2.0 * kl_limit / jnp.maximum(jnp.vdot(x, product(x)), _TINY)) * x


def backtrack(
    params: Float[Array, "P"],
    step: Float[Array, "P"],
    allowed: Callable,
    shrink: Scalar,
    num_tries: int,
) -> Line:
    """θ + shrink^j · step with the first j < `num_tries` that is allowed; θ itself if none is.

    Args:
      params: θ.
      step: Tried whole first.
      allowed: θ -> whether it may be taken, False where it is not finite.
      shrink: In (0, 1).
      num_tries: Lengths tried.
    """

    def going_on(line: Line) -> Bool[Array, ""]:
        return ~line.accepted & (line.num_refused < num_tries)

    def attempt(line: Line) -> Line:
        tried = params + shrink**line.num_refused * step
        accepted = allowed(tried)
        return Line(
            jnp.where(accepted, tried, params), accepted, line.num_refused + (~accepted).astype(int)
        )

    start = Line(params, jnp.asarray(False), jnp.asarray(0))
    return jax.lax.while_loop(going_on, attempt, start)
