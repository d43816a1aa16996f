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


def ensemble_loss(
    q: Float[Array, "E B"], target: Float[Array, "B"], weight: Float[Array, "E B"] | None = None
) -> Float[Array, ""]:
    """Σ_k mean_b ( Q_k(s, a) − y )², without a factor ½; with weights Σ_k Σ_b sg(w_kb) ( … )², the
    same where they are 1/B."""
    error = jnp.square(q - target[None])
    if weight is None:
        return jnp.sum(jnp.mean(error, axis=1))
    return jnp.sum(jax.lax.stop_gradient(weight) * error)


def cross_entropy_loss(logit: Float[Array, "E B"], target: Float[Array, "B"]) -> Float[Array, ""]:
    """Σ_k mean_b −[ y log Q_k + (1 − y) log(1 − Q_k) ] with Q = sigmoid(logit), y in [0, 1].

    Its gradient in the logit is Q − y, and like the squared error it is least at Q = E[y].

    Source: Kalashnikov et al. 2018 (QT-Opt), arXiv:1806.10293, section 4.
    """
    return jnp.sum(jnp.mean(jax.nn.softplus(logit) - target[None] * logit, axis=1))


def discor_weights(
    next_error: Float[Array, "E B"],
    terminal: Float[Array, "B"],
    discount: Scalar,
    temperature: Float[Array, "E"],
) -> Float[Array, "E B"]:
    """w_kb = softmax_b( −γ (1 − d) Δ̄_k(s′, a′) / T_k ): little where the target's own value is
    wrong. They sum to 1 over the batch.

    Source: Kumar et al. 2020 (DisCor), arXiv:2003.07305, the weights of its practical algorithm.
    """
    continuing = discount * (1.0 - terminal)
    return jax.nn.softmax(-continuing[None] * next_error / temperature[:, None], axis=1)


def huber_loss(error: Float[Array, "*B"], threshold: Scalar) -> Float[Array, "*B"]:
    """½ u² where |u| ≤ κ, κ (|u| − ½ κ) beyond.

    Source: Huber 1964; Mnih et al. 2015 clip the error at κ = 1, which has the same gradient.
    """
    size = jnp.abs(error)
    near = jnp.minimum(size, threshold)
    return near * (size - 0.5 * near)


def quantile_huber_loss(
    quantiles: Float[Array, "*B n"], target: Float[Array, "*B m"], threshold: Scalar
) -> Float[Array, "*B"]:
    """Σ_i mean_j |τ_i − 1(u_ij < 0)| L_κ(u_ij),   u_ij = y_j − θ_i,   τ_i = (i − ½) / n.

    Source: Dabney et al. 2018 (QR-DQN), arXiv:1710.10044, eq. 10 and algorithm 1.
    """
    num_quantiles = quantiles.shape[-1]
    levels = (jnp.arange(num_quantiles) + 0.5) / num_quantiles
    error = jnp.expand_dims(target, -2) - jnp.expand_dims(quantiles, -1)  # (*B, n, m)
    levels = levels.reshape((1,) * (quantiles.ndim - 1) + (-1, 1))
    weight = jnp.abs(levels - (error < 0))
    return jnp.sum(jnp.mean(weight * huber_loss(error, threshold), axis=-1), axis=-1)


def ensemble_mix(q: Float[Array, "E *B"], minimum_weight: Scalar) -> Float[Array, "*B"]:
    """λ min_k Q_k + (1 − λ) max_k Q_k over E critics, with λ = `minimum_weight`.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900, eq. 13.
    """
    return minimum_weight * jnp.min(q, axis=0) + (1 - minimum_weight) * jnp.max(q, axis=0)
