"""What twin-delayed deterministic actor-critics share: state, smoothed targets, delayed steps.

Source: Fujimoto et al. 2018 (TD3), arXiv:1802.09477, with a minimum over E critics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.config import config, setting
from offrl_jax.losses.td import ensemble_loss, polyak, td_target
from offrl_jax.networks.modules import (
    critic_values,
    deterministic_policy,
    init_critics,
    init_policy,
)
from offrl_jax.networks.optimizers import adam_step
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
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), "critics' hidden layers", low=1)
    critic_layer_norm: bool = setting(False, "LayerNorm after each hidden layer of the critics")
    batch_size: int = setting(256, "transitions a step", low=1)


class TwinDelayedState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    target_actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    actor_optimizer: Any
    critic_optimizer: Any


def init(config: TwinDelayedConfig, spec: Spec, key: Key) -> TwinDelayedState:
    """Fresh parameters, the targets equal to their networks."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_policy(
        config.actor_hidden_sizes, spec.observation_size, spec.action_size, actor_key
    )
    critic = init_critics(
        config.critic_hidden_sizes,
        config.num_critics,
        spec,
        critic_key,
        layer_norm=config.critic_layer_norm,
    )
    return TwinDelayedState(
        step=jnp.int32(0),
        actor=actor,
        target_actor=actor,
        critic=critic,
        target_critic=critic,
        actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
        critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
    )


def q_values(
    config: TwinDelayedConfig,
    critic: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of every critic."""
    return critic_values(
        config.critic_hidden_sizes, critic, observation, action, layer_norm=config.critic_layer_norm
    )


def smoothed_target_action(
    config: TwinDelayedConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> Float[Array, "B A"]:
    """ã′ = clip( π̄(s′) + clip(σ ε, −c, c), −1, 1 ), ε ~ N(0, 1).

    Source: Fujimoto et al. 2018, arXiv:1802.09477, eq. 14.
    """
    action = deterministic_policy(
        config.actor_hidden_sizes, state.target_actor, batch.next_observation
    )
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
    return jnp.min(
        q_values(config, state.target_critic, batch.next_observation, next_action), axis=0
    )


def critic_step(
    config: Any,
    state: TwinDelayedState,
    batch: Transition,
    key: Key,
    next_state_value: Callable = next_state_value,
) -> tuple[TwinDelayedState, Metrics]:
    """One step of the critics on Σ_k mean_b ( Q_k(s, a) − y )².

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

    def loss(critic: Any) -> tuple[Float[Array, ""], Array]:
        q = q_values(config, critic, batch.observation, batch.action)
        return ensemble_loss(q, target), jnp.mean(q)

    (value, q), gradient = jax.value_and_grad(loss, has_aux=True)(state.critic)
    critic, optimizer = adam_step(
        config.critic_learning_rate, gradient, state.critic, state.critic_optimizer
    )
    state = state._replace(step=state.step + 1, critic=critic, critic_optimizer=optimizer)
    return state, {"critic/loss": value, "critic/q": q}


def actor_step(
    config: Any, state: TwinDelayedState, batch: Transition, actor_loss: Callable
) -> tuple[TwinDelayedState, Metrics]:
    """One step of the actor on `actor_loss(actor, critic, batch, config) -> (loss, metrics)`; then
    both targets follow."""
    gradient, metrics = jax.grad(actor_loss, has_aux=True)(state.actor, state.critic, batch, config)
    actor, optimizer = adam_step(
        config.actor_learning_rate, gradient, state.actor, state.actor_optimizer
    )
    rate = config.target_update_rate
    state = state._replace(
        actor=actor,
        actor_optimizer=optimizer,
        target_actor=polyak(state.target_actor, actor, rate),
        target_critic=polyak(state.target_critic, state.critic, rate),
    )
    return state, metrics


def act(
    config: Any, state: TwinDelayedState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """π(s), which has no randomness."""
    del key
    return deterministic_policy(config.actor_hidden_sizes, state.actor, observation)


def value(
    config: Any, state: TwinDelayedState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s))."""
    action = act(config, state, observation, None)
    return jnp.min(q_values(config, state.critic, observation, action), axis=0)


def state_q_values(
    config: TwinDelayedConfig,
    state: TwinDelayedState,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of `state.critic`: an `Algorithm.q_values`."""
    return q_values(config, state.critic, observation, action)
