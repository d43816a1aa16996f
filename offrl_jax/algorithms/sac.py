"""Soft actor-critic on a fixed dataset: the unconstrained baseline; with E critics, SAC-N.

Citation: Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548.
Update order: `soft_actor_critic.update`.
Checked against: the authors' EDAC code (`num_critics`, sum over critics of the mean squared error).
"""

from typing import Any

import jax.numpy as jnp

from offrl_jax import soft_actor_critic
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.distributions import TanhGaussian
from offrl_jax.losses.td import ensemble_loss
from offrl_jax.soft_actor_critic import SoftActorCriticConfig, SoftActorCriticState, q_values
from offrl_jax.types import Array, Float, Key, Metrics, Transition


def critic_loss(
    critic: Any,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: SoftActorCriticConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − y )².

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5.
    Departs from the paper: no factor ½; summed over critics, as the SAC-N authors do.
    """
    del policy, next_policy, key  # for the losses that constrain
    q = q_values(config, critic, batch.observation, batch.action)
    loss = ensemble_loss(q, target)
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q)}


def update(
    config: SoftActorCriticConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    return soft_actor_critic.update(config, state, batch, key, critic_loss)


sac = Algorithm(
    name="sac",
    Config=SoftActorCriticConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548",
)
