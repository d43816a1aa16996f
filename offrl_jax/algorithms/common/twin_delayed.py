"""What twin-delayed deterministic actor-critics share: state, smoothed targets, delayed steps.

Source: Fujimoto et al. 2018 (TD3), arXiv:1802.09477, with a minimum over E critics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.critics import critic_loss, minimum_q
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.heads import deterministic_policy, init_critics, init_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class TwinDelayedConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    target_update_rate: float = setting(0.005, "Polyak rate of all targets", low=0, high=1)
    actor_learning_rate: float = setting(3e-4, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(3e-4, "Adam's step size for the critics", low=0)
    target_noise: float = setting(0.2, "standard deviation of the target action's noise", low=0)
    target_noise_clip: float = setting(0.5, "bound of the target action's noise", low=0)
    policy_delay: int = setting(
        2, "critic steps to one of the actor and the targets", low=1, high=100
    )
    num_critics: int = setting(2, "E, critics whose minimum is the target", low=1)
    actor_network: nn.Module = network_setting(MLP(), "actor's network")
    critic_network: nn.Module = network_setting(MLP(), "network of each critic")
    batch_size: int = setting(256, "transitions a step", low=1)


class TwinDelayedState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    target_actor: Any
    critic: Trainable  # stacked over E
    target_critic: Any


def init(config: TwinDelayedConfig, spec: Spec, key: Key) -> TwinDelayedState:
    """Fresh parameters, the targets equal to their networks."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_policy(config.actor_network, spec.action_size, spec, actor_key)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    return TwinDelayedState(
        step=jnp.int32(0),
        actor=Trainable.create(actor),
        target_actor=actor,
        critic=Trainable.create(critic),
        target_critic=critic,
    )


def smoothed_target_action(
    config: TwinDelayedConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> Float[Array, "B A"]:
    """ã′ = clip( π̄(s′) + clip(σ ε, −c, c), −1, 1 ), ε ~ N(0, 1).

    Source: Fujimoto et al. 2018, arXiv:1802.09477, eq. 14.
    """
    action = deterministic_policy(config.actor_network, state.target_actor, batch.next_observation)
    limit = config.target_noise_clip
    noise = jnp.clip(config.target_noise * jax.random.normal(key, action.shape), -limit, limit)
    return jnp.clip(action + noise, -1.0, 1.0)


def next_state_value(
    config: TwinDelayedConfig,
    state: TwinDelayedState,
    batch: Transition,
    next_action: Float[Array, "B A"],
) -> Float[Array, "B"]:
    """V̄(s′) = min_k Q̄_k(s′, ã′)."""
    return minimum_q(config, state.target_critic, batch.next_observation, next_action)


def critic_step(
    config: Any,
    state: TwinDelayedState,
    batch: Transition,
    key: Key,
    next_state_value: Callable = next_state_value,
) -> tuple[TwinDelayedState, Metrics]:
    """One step of the critics on `critics.critic_loss`.

    Args:
      config: The algorithm's.
      state: Before the step.
      batch: (B, ...).
      key: Of this step.
      next_state_value: (config, state, batch, next_action) -> what y bootstraps from, (B,).
    """
    next_action = smoothed_target_action(config, state, batch, key)
    next_value = next_state_value(config, state, batch, next_action)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    critic, metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target), config.critic_learning_rate
    )
    return state._replace(step=state.step + 1, critic=critic), metrics


def actor_step(
    config: Any, state: TwinDelayedState, batch: Transition, actor_loss: Callable
) -> tuple[TwinDelayedState, Metrics]:
    """One step of the actor on `actor_loss(config, actor, critic, batch) -> (loss, metrics)`; then
    both targets follow."""
    actor, metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, state.critic.params, batch),
        config.actor_learning_rate,
    )
    target_actor = polyak(state.target_actor, actor.params, config.target_update_rate)
    target_critic = polyak(state.target_critic, state.critic.params, config.target_update_rate)
    state = state._replace(actor=actor, target_actor=target_actor, target_critic=target_critic)
    return state, metrics


def act(
    config: Any, state: TwinDelayedState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """π(s), which has no randomness."""
    del key
    return deterministic_policy(config.actor_network, state.actor.params, observation)


def value(
    config: Any, state: TwinDelayedState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s))."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)
