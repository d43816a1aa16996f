"""Soft actor-critic on a fixed dataset: the unconstrained baseline; with E critics, SAC-N.

Citation: Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548.
Update order: `soft_actor_critic.update`.
Checked against: the authors' EDAC code (`num_critics`, sum over critics of the mean squared error).
"""

from typing import Any

import jax

from offrl_jax import soft_actor_critic
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.candidates import state_q_values
from offrl_jax.distributions import TanhGaussian
from offrl_jax.soft_actor_critic import SoftActorCriticConfig, SoftActorCriticState
from offrl_jax.types import Array, Float, Key, Metrics, Transition


def critic_loss(
    critic: Any,
    state: SoftActorCriticState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: SoftActorCriticConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """`soft_actor_critic.td_loss`; what it does not take is for the losses that constrain."""
    del state, policy, next_policy, key
    return soft_actor_critic.td_loss(critic, batch, target, config)


def update(
    config: SoftActorCriticConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    return soft_actor_critic.update(config, state, batch, key, jax.grad(critic_loss, has_aux=True))


sac = Algorithm(
    name="sac",
    Config=SoftActorCriticConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548",
    q_values=state_q_values,
)
