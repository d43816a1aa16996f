"""Temporal-difference targets and target networks."""

from typing import Any

import jax
import jax.numpy as jnp

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


def ensemble_loss(q: Float[Array, "E B"], target: Float[Array, "B"]) -> Float[Array, ""]:
    """Σ_k mean_b ( Q_k(s, a) − y )², without a factor ½."""
    return jnp.sum(jnp.mean(jnp.square(q - target[None]), axis=1))


def ensemble_mix(q: Float[Array, "E *B"], minimum_weight: Scalar) -> Float[Array, "*B"]:
    """λ min_k Q_k + (1 − λ) max_k Q_k over E critics, with λ = `minimum_weight`.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900, eq. 13.
    """
    return minimum_weight * jnp.min(q, axis=0) + (1 - minimum_weight) * jnp.max(q, axis=0)
