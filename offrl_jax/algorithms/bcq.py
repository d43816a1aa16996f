"""Batch-constrained Q-learning: act among slightly perturbed actions of a generative model of the
data.

Citation: Fujimoto et al. 2019, arXiv:1812.02900 (continuous BCQ).
Update order: behaviour model → critics → perturbation → targets.
Checked against: the authors' code (sfujim/BCQ at 4876f7e, continuous).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.behavior import cvae_loss, fit_behavior, init_cvae, sample_cvae
from offrl_jax.algorithms.common.best_of_n import best_action, best_action_value
from offrl_jax.algorithms.common.critics import critic_step, minimum_q, state_q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.modules import StateActionMLP, critic_values, first, init_critics
from offrl_jax.networks.optimizers import adam_step
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
    behavior_hidden_sizes: tuple[int, ...] = setting((750, 750), "model's hidden layers", low=1)
    actor_hidden_sizes: tuple[int, ...] = setting((400, 300), "perturbation's layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((400, 300), "critics' hidden layers", low=1)
    batch_size: int = setting(100, "transitions a step", low=1)


class BCQState(NamedTuple):
    step: Int[Array, ""]
    behavior: Any  # the CVAE
    actor: Any  # the perturbation
    target_actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    behavior_optimizer: Any
    actor_optimizer: Any
    critic_optimizer: Any


def init(config: BCQConfig, spec: Spec, key: Key) -> BCQState:
    behavior_key, actor_key, critic_key = jax.random.split(key, 3)
    behavior = init_cvae(config.behavior_hidden_sizes, spec, behavior_key)
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    actor = StateActionMLP(config.actor_hidden_sizes, spec.action_size).init(
        actor_key, observation, action
    )
    critic = init_critics(config.critic_hidden_sizes, config.num_critics, spec, critic_key)
    return BCQState(
        step=jnp.int32(0),
        behavior=behavior,
        actor=actor,
        target_actor=actor,
        critic=critic,
        target_critic=critic,
        behavior_optimizer=optax.adam(config.behavior_learning_rate).init(behavior),
        actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
        critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
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
    network = StateActionMLP(config.actor_hidden_sizes, action.shape[-1])
    shift = config.max_perturbation * jnp.tanh(network.apply(actor, observation, action))
    return jnp.clip(action + shift, -1.0, 1.0)


def candidates(
    config: BCQConfig,
    behavior: Any,
    actor: Any,
    observation: Float[Array, "B O"],
    num_candidates: int,
    key: Key | None,
) -> Float[Array, "B N A"]:
    """ξ(s, a_j) of N actions a_j of the behaviour model."""
    model = sample_cvae(config.behavior_hidden_sizes, behavior, observation, num_candidates, key)
    return perturbed(config, actor, observation, jnp.tanh(model))


def next_state_value(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """V̄(s′): `best_action_value` of the target critics and the target perturbation."""
    num, observation = config.num_target_actions, batch.next_observation
    action = candidates(config, state.behavior, state.target_actor, observation, num, key)
    return best_action_value(config, state.target_critic, observation, action)


def actor_loss(
    actor: Any, state: BCQState, batch: Transition, key: Key, config: BCQConfig
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b Q_1(s, ξ(s, a)), a one action of the behaviour model.

    Source: Fujimoto et al. 2019, arXiv:1812.02900, eq. 12.
    """
    action = candidates(config, state.behavior, actor, batch.observation, 1, key)[:, 0]
    q = critic_values(config.critic_hidden_sizes, first(state.critic), batch.observation, action)
    loss = -jnp.mean(q)
    return loss, {"actor/loss": loss}


def behavior_loss(
    behavior: Any, batch: Transition, key: Key, config: BCQConfig
) -> tuple[Float[Array, ""], Metrics]:
    """`cvae_loss`."""
    return cvae_loss(behavior, batch, key, config.behavior_hidden_sizes)


def behavior_update(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> tuple[BCQState, Metrics]:
    """A step of the behaviour model alone."""
    state, metrics = fit_behavior(config, state, batch, key, behavior_loss)
    return state._replace(step=state.step + 1), metrics


def constrained_update(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> tuple[BCQState, Metrics]:
    """A step of the critics, the perturbation and the targets, the behaviour model as it is."""
    next_key, actor_key = jax.random.split(key)
    next_value = next_state_value(config, state, batch, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    state, critic_metrics = critic_step(config, state, batch, target)
    gradient, actor_metrics = jax.grad(actor_loss, has_aux=True)(
        state.actor, state, batch, actor_key, config
    )
    actor, actor_optimizer = adam_step(
        config.actor_learning_rate, gradient, state.actor, state.actor_optimizer
    )
    rate = config.target_update_rate
    state = state._replace(
        step=state.step + 1,
        actor=actor,
        actor_optimizer=actor_optimizer,
        target_actor=polyak(state.target_actor, actor, rate),
        target_critic=polyak(state.target_critic, state.critic, rate),
    )
    return state, critic_metrics | actor_metrics


def update(
    config: BCQConfig, state: BCQState, batch: Transition, key: Key
) -> tuple[BCQState, Metrics]:
    """A step of everything, and of the behaviour model first unless a phase of its own fits it."""
    behavior_metrics = {}
    if config.num_behavior_steps == 0:
        behavior_key, key = jax.random.split(key)
        state, behavior_metrics = fit_behavior(config, state, batch, behavior_key, behavior_loss)
    state, metrics = constrained_update(config, state, batch, key)
    return state, behavior_metrics | metrics


def phases(config: BCQConfig, update: Callable) -> tuple[Phase, ...]:
    return Phase((behavior_update,), config.num_behavior_steps), Phase((update,))


def act(
    config: BCQConfig, state: BCQState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The candidate of highest Q_1; without a key always from the same latents."""
    num = config.num_action_samples
    action = candidates(config, state.behavior, state.actor, observation, num, key)
    q = critic_values(config.critic_hidden_sizes, state.critic, observation, action)
    return best_action(action, q[0])


def value(
    config: BCQConfig, state: BCQState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic, observation, action)


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
