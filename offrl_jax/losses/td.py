"""Temporal-difference targets and target networks."""

from typing import Any

import jax

from offrl_jax.types import Array, Float, Scalar


def td_target(
    reward: Float[Array, "*B"],
    terminal: Float[Array, "*B"],
    next_value: Float[Array, "*B"],
    discount: Scalar,
) -> Float[Array, "*B"]:
    """y = sg[ r + γ (1 − d) V(s′) ], with d = 1 at true ends only, so time-outs bootstrap."""
    return jax.lax.stop_gradient(reward + discount * (1.0 - terminal) * next_value)


def polyak(target: Any, online: Any, rate: Scalar) -> Any:
    """θ̄ ← (1 − τ) θ̄ + τ θ, leaf by leaf."""
    return jax.tree.map(lambda t, o: t + rate * (o - t), target, online)
