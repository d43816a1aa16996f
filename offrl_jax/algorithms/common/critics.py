"""An ensemble of critics Q_k(s, a): its loss and its minimum."""

from typing import Any

import jax.numpy as jnp

from offrl_jax.losses.td import ensemble_loss
from offrl_jax.networks.heads import critic_values
from offrl_jax.types import Array, Float, Metrics, Transition


def q_values(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of every critic, for one action a state or several."""
    return critic_values(config.critic_network, critic, observation, action)


def minimum_q(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "B *N"]:
    """min_k Q_k(s, a), for one action a state or several."""
    return jnp.min(q_values(config, critic, observation, action), axis=0)


def state_q_values(
    config: Any, state: Any, observation: Float[Array, "B O"], action: Float[Array, "B *N A"]
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of `state.critic`: an `Algorithm.q_values`."""
    return q_values(config, state.critic.params, observation, action)


def critic_loss(
    config: Any, critic: Any, batch: Transition, target: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − y )².

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5.
    Departs from the paper: no factor ½; summed over critics, as the SAC-N authors do.
    """
    q = q_values(config, critic, batch.observation, batch.action)
    loss = ensemble_loss(q, target)
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q)}
