"""The shield: actions that look too dangerous are drawn again.

Source: Bharadhwaj et al. 2021, arXiv:2010.14497, algorithm 1.
"""

from typing import NamedTuple

import jax.numpy as jnp

from offrl_jax.types import Array, Bool, Float, Int, Scalar


class Choice(NamedTuple):
    """Attributes:
    action: The first of the drawn actions that is safe enough, or the least dangerous.
    index: Which of the drawn ones it is.
    is_fallback: Whether none was safe enough.
    num_refused: How many were drawn and refused before it; all of them at a fallback.
    """

    action: Float[Array, "B A"]
    index: Int[Array, "B"]
    is_fallback: Bool[Array, "B"]
    num_refused: Int[Array, "B"]


def threshold(
    accident_limit: Scalar, accident_value: Scalar, accident_discount: Scalar
) -> Float[Array, ""]:
    """ε = (1 − γ) (χ − V̂_C): a share of what is left of the limit. Negative, it refuses all."""
    return jnp.asarray((1.0 - accident_discount) * (accident_limit - accident_value))


def choose(
    action: Float[Array, "B N A"], accident_q: Float[Array, "B N"], epsilon: Scalar
) -> Choice:
    """a_j with the first j such that Q̂_C(s, a_j) ≤ ε, of N drawn from π; argmin_j Q̂_C if none.

    Drawing N at once and taking the first that passes is drawing again until one passes.
    """
    safe = accident_q <= epsilon
    is_fallback = ~jnp.any(safe, axis=1)
    first = jnp.argmax(safe, axis=1)
    index = jnp.where(is_fallback, jnp.argmin(accident_q, axis=1), first)
    chosen = jnp.take_along_axis(action, index[:, None, None], axis=1)[:, 0]
    num_refused = jnp.where(is_fallback, action.shape[1], first)
    return Choice(chosen, index, is_fallback, num_refused)
