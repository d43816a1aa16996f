"""Learners that choose among candidates: draw several actions a state, take the one Q likes.

What BCQ and BEAR share; the critics' minimum and loss serve the advantage-weighted learners too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.losses.td import ensemble_loss, ensemble_mix
from offrl_jax.networks.modules import critic_values
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Key, Metrics, Transition


def candidate_noise(
    key: Key | None, num_states: Any, num_candidates: int, size: int
) -> Float[Array, "B_or_1 N W"]:
    """Standard normals (B, N, W); without a key the same ones for every state, (1, N, W), at every
    call, so that acting is a function of the state alone. `num_states` is an int, or symbolic while
    a policy is exported."""
    if key is None:
        return jax.random.normal(jax.random.key(0), (1, num_candidates, size))
    return jax.random.normal(key, (num_states, num_candidates, size))


def best_candidate(action: Float[Array, "B N A"], q: Float[Array, "B N"]) -> Float[Array, "B A"]:
    """argmax_j Q(s, a_j) over the N candidates of each state."""
    index = jnp.argmax(q, axis=1)[:, None, None]
    return jnp.take_along_axis(action, index, axis=1)[:, 0]


def best_candidate_value(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B N A"]
) -> Float[Array, "B"]:
    """max_j [ λ min_k Q_k(s, a_j) + (1 − λ) max_k Q_k(s, a_j) ] over the N candidates.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900, eq. 13; Kumar et al. 2019 (BEAR),
    arXiv:1906.00949, algorithm 1.
    """
    q = critic_values(config.critic_hidden_sizes, critic, observation, action)
    return jnp.max(ensemble_mix(q, config.minimum_weight), axis=1)


def critic_loss(
    critic: Any, batch: Transition, target: Float[Array, "B"], config: Any
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − y )²."""
    q = critic_values(config.critic_hidden_sizes, critic, batch.observation, batch.action)
    loss = ensemble_loss(q, target)
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q)}


def critic_step(
    config: Any, state: Any, batch: Transition, target: Float[Array, "B"]
) -> tuple[Any, Metrics]:
    """One step of the critics on `critic_loss`."""
    gradient, metrics = jax.grad(critic_loss, has_aux=True)(state.critic, batch, target, config)
    critic, optimizer = adam_step(
        config.critic_learning_rate, gradient, state.critic, state.critic_optimizer
    )
    state = state._replace(critic=critic, critic_optimizer=optimizer)
    return state, metrics


def state_q_values(
    config: Any, state: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of `state.critic`: an `Algorithm.q_values`."""
    return critic_values(config.critic_hidden_sizes, state.critic, observation, action)


def minimum_q(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "B *N"]:
    """min_k Q_k(s, a), for one action a state or several."""
    return jnp.min(critic_values(config.critic_hidden_sizes, critic, observation, action), axis=0)
