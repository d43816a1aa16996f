"""Iterating contractions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Scalar


def fixed_point(
    update: Callable[[Array], Array], start: Float[Array, "..."], discount: Scalar
) -> Float[Array, "..."]:
    """The x = update(x) of an update that is a contraction at rate γ < 1 in the maximum norm.

    Stops when nothing changes any more, at the latest after log ε / log γ updates, ε being the
    resolution of x's type: what is left of the first error is then below rounding. In single
    precision a fixed point has relative errors up to about 10⁻⁷ / (1 − γ). It has no reverse-mode
    derivative.
    """
    most = jnp.ceil(jnp.log(jnp.finfo(start.dtype).eps) / jnp.log(discount)) + 1

    def goes_on(carry):
        _, step, changed = carry
        return changed & (step < most)

    def once_more(carry):
        x, step, _ = carry
        new = update(x)
        return new, step + 1, jnp.any(new != x)

    return jax.lax.while_loop(goes_on, once_more, (start, 0, True))[0]
