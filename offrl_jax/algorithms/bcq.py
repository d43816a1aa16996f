"""Batch-constrained Q-learning: act among slightly perturbed actions of a generative model of the
data.

Citation: Fujimoto et al. 2019, arXiv:1812.02900 (continuous BCQ).
Update order: behaviour model → critics → perturbation → targets.
Checked against: the authors' code (sfujim/BCQ at 4876f7e, continuous).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.behavior import cvae_loss, init_cvae, sample_cvae
from offrl_jax.algorithms.common.best_of_n import best_action, best_action_value
from offrl_jax.algorithms.common.critics import (
    critic_loss,
    minimum_q,
    q_values,
    state_q_values,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.heads import first, init_critics, init_outputs, outputs
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class BCQConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    target_update_rate: float = setting(0.005, "Polyak rate of all targets", low=0, high=1)
    max_perturbation: float = setting(
        0.05, "Φ: how far each action dimension may leave the model's", low=0, high=2
    )
    minimum_weight: float = setting(
        0.75, "λ of the target's mix λ min Q + (1 − λ) max Q over critics", low=0, high=1
    )
    num_target_actions: int = setting(10, "candidates at s′ whose best is the target", low=1)
    num_action_samples: int = setting(100, "candidates among which acting takes the best", low=1)
    num_behavior_steps: int = setting(
        0, "steps that pretrain the behaviour model, then frozen; 0: it learns alongside", low=0
    )
    behavior_learning_rate: float = setting(1e-3, "Adam's step size for the model", low=0)
    actor_learning_rate: float = setting(1e-3, "Adam's step size for the perturbation", low=0)
    critic_learning_rate: float = setting(1e-3, "Adam's step size for the critics", low=0)
    num_critics: int = setting(2, "E", low=1)
    behavior_network: nn.Module = network_setting(
        MLP((750, 750)), "network of the behaviour model's encoder and of its decoder"
    )
    actor_network: nn.Module = network_setting(MLP((400, 300)), "perturbation's network")
    critic_network: nn.Module = network_setting(MLP((400, 300)), "network of each critic")
    batch_size: int = setting(100, "transitions a step", low=1)


class BCQState(NamedTuple):
    step: Int[Array, ""]
    behavior: Trainable  # the CVAE
    actor: Trainable  # the perturbation
    target_actor: Any
    critic: Trainable  # stacked over E
    target_critic: Any


def init(config: BCQConfig, spec: Spec, key: Key) -> BCQState:
    behavior_key, actor_key, critic_key = jax.random.split(key, 3)
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    actor = init_outputs(config.actor_network, spec.action_size, actor_key, observation, action)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    return BCQState(
        step=jnp.int32(0),
        behavior=Trainable.create(init_cvae(config.behavior_network, spec, behavior_key)),
        actor=Trainable.create(actor),
        target_actor=actor,
        critic=Trainable.create(critic),
        target_critic=critic,
    )


def perturbed(
    config: BCQConfig,
    actor: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "B *N A"]:
    """ξ(s, a) = clip( a + Φ tanh(·), −1, 1 ).

    Source: Fujimoto et al. 2019, arXiv:1812.02900, eq. 11.
    """
    shift = jnp.tanh(outputs(config.actor_network, actor, observation, action))
    return jnp.clip(action + config.max_perturbation * shift, -1.0, 1.0)


def candidates(
    config: BCQConfig,
    state: BCQState,
    actor: Any,
    observation: Float[Array, "B O"],
    *,
    num_candidates: int,
    key: Key | None,
) -> Float[Array, "B N A"]:
    """ξ(s, a_j) of N actions a_j of the behaviour model."""
    cvae = state.behavior.params
    pre_tanh = sample_cvae(
        config.behavior_network, cvae, observation, num_samples=num_candidates, key=key
    )
    return perturbed(config, actor, observation, jnp.tanh(pre_tanh))


def next_state_value(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """V̄(s′): `best_action_value` of the target critics and the target perturbation."""
    num, observation = config.num_target_actions, batch.next_observation
    action = candidates(config, state, state.target_actor, observation, num_candidates=num, key=key)
    return best_action_value(config, state.target_critic, observation, action)


def actor_loss(
    config: BCQConfig, actor: Any, state: BCQState, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b Q_1(s, ξ(s, a)), a one action of the behaviour model.

    Source: Fujimoto et al. 2019, arXiv:1812.02900, eq. 12.
    """
    action = candidates(config, state, actor, batch.observation, num_candidates=1, key=key)[:, 0]
    loss = -jnp.mean(q_values(config, first(state.critic.params), batch.observation, action))
    return loss, {"actor/loss": loss}


def behavior_update(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> tuple[BCQState, Metrics]:
    """A step of the behaviour model alone."""
    behavior, metrics = state.behavior.minimize(
        lambda cvae: cvae_loss(config, cvae, batch, key), config.behavior_learning_rate
    )
    return state._replace(step=state.step + 1, behavior=behavior), metrics


def update(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> tuple[BCQState, Metrics]:
    """One step of all networks; first of the behaviour model, unless its own phase fits it."""
    metrics = {}
    if config.num_behavior_steps == 0:
        behavior_key, key = jax.random.split(key)
        fitted, metrics = behavior_update(config, state, batch, behavior_key)
        state = state._replace(behavior=fitted.behavior)
    next_key, actor_key = jax.random.split(key)
    next_value = next_state_value(config, state, batch, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    critic, critic_metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target), config.critic_learning_rate
    )
    state = state._replace(critic=critic)
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, state, batch, actor_key),
        config.actor_learning_rate,
    )
    state = state._replace(
        step=state.step + 1,
        actor=actor,
        target_actor=polyak(state.target_actor, actor.params, config.target_update_rate),
        target_critic=polyak(state.target_critic, critic.params, config.target_update_rate),
    )
    return state, metrics | critic_metrics | actor_metrics


def phases(config: BCQConfig, update: Callable) -> tuple[Phase, ...]:
    return Phase((behavior_update,), config.num_behavior_steps), Phase((update,))


def act(
    config: BCQConfig, state: BCQState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The candidate of highest Q_1; without a key always from the same latents."""
    num = config.num_action_samples
    action = candidates(config, state, state.actor.params, observation, num_candidates=num, key=key)
    return best_action(action, q_values(config, state.critic.params, observation, action)[0])


def value(
    config: BCQConfig, state: BCQState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)


bcq = Algorithm(
    name="bcq",
    Config=BCQConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Fujimoto et al. 2019, arXiv:1812.02900",
    phases=phases,
    q_values=state_q_values,
)
