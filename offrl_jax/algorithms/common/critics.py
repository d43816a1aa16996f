"""An ensemble of critics Q_k(s, a): its loss, its step and its minimum."""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.losses.td import ensemble_loss
from offrl_jax.networks.modules import critic_values
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Metrics, Transition


def q_values(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of every critic, for one action a state or several."""
    return critic_values(config.critic_hidden_sizes, critic, observation, action)


def minimum_q(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "B *N"]:
    """min_k Q_k(s, a), for one action a state or several."""
    return jnp.min(q_values(config, critic, observation, action), axis=0)


def state_q_values(
    config: Any, state: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of `state.critic`: an `Algorithm.q_values`."""
    return q_values(config, state.critic, observation, action)


def agent_q_values(
    config: Any, state: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of `state.agent.critic`: an `Algorithm.q_values`."""
    return q_values(config, state.agent.critic, observation, action)


def critic_loss(
    critic: Any, batch: Transition, target: Float[Array, "B"], config: Any
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − y )².

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5.
    Departs from the paper: no factor ½; summed over critics, as the SAC-N authors do.
    """
    q = q_values(config, critic, batch.observation, batch.action)
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
