"""Generalised advantage estimation over (T, N): T steps of N worlds side by side."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Scalar


def generalized_advantages(
    reward: Float[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    *,
    terminal: Float[Array, "T N"],
    end: Float[Array, "T N"],
    discount: Scalar,
    decay: Scalar,
) -> Float[Array, "T N"]:
    """A_t = δ_t + γ λ (1 − e_t) A_{t+1},   δ_t = r_t + γ (1 − d_t) V(s_{t+1}) − V(s_t).

    Args:
      reward: r.
      value: V(s_t).
      next_value: V of the state that followed s_t, before any reset.
      terminal: d, 1 at true ends alone, so that time-outs bootstrap.
      end: e, 1 wherever an episode ended.
      discount: γ.
      decay: λ; 1 gives returns less the baseline V.

    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16.
    """
    delta = reward + discount * (1.0 - terminal) * next_value - value

    def step(later: Float[Array, "N"], row: tuple) -> tuple[Array, Array]:
        delta, end = row
        advantage = delta + discount * decay * (1.0 - end) * later
        return advantage, advantage

    start = jnp.zeros_like(reward[0])
    return jax.lax.scan(step, start, (delta, end), reverse=True)[1]
