"""Q-learning over discrete actions: what `dqn`, `bcq_discrete` and `cql_discrete` share.

Q is a network of the state with a head for every action; actions are one-hot rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.config import config, setting
from offrl_jax.losses.td import huber_loss, polyak, quantile_huber_loss, td_target
from offrl_jax.networks import heads
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class DiscreteQConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    huber_threshold: float = setting(
        1.0, "κ: TD errors count squared up to it and linearly beyond; large is ½ MSE", low=1e-6
    )
    target_update_rate: float = setting(0.005, "Polyak rate of the target critic", low=0, high=1)
    target_update_period: int = setting(
        1, "steps between two updates of the target; with rate 1 it is a copy", low=1
    )
    critic_learning_rate: float = setting(3e-4, "Adam's step size", low=0)
    critic_network: nn.Module = network_setting(
        MLP(), "critic's network, which takes the state alone"
    )
    batch_size: int = setting(256, "transitions a step", low=1)


@config
class QuantileQConfig(DiscreteQConfig):
    double: bool = setting(True, "whether the critic, not its target, chooses the action at s′")
    num_quantiles: int = setting(
        1, "n of the return's distribution (QR-DQN: 200); 1 is its mean alone", low=1
    )


class DiscreteQState(NamedTuple):
    step: Int[Array, ""]
    critic: Trainable
    target_critic: Any


def init(config: DiscreteQConfig, spec: Spec, key: Key, outputs_per_action: int) -> DiscreteQState:
    """Fresh parameters, the target critic equal to the critic."""
    num_outputs = outputs_per_action * spec.action_size
    critic = heads.init_policy(config.critic_network, num_outputs, spec, key)
    return DiscreteQState(jnp.int32(0), Trainable.create(critic), critic)


def init_quantiles(config: QuantileQConfig, spec: Spec, key: Key) -> DiscreteQState:
    return init(config, spec, key, config.num_quantiles)


def outputs(
    config: DiscreteQConfig, critic: Any, observation: Float[Array, "B O"], num: int
) -> Float[Array, "B num A"]:
    """The head's numbers, `num` of every action."""
    flat = heads.outputs(config.critic_network, critic, observation)
    return flat.reshape(*flat.shape[:-1], num, flat.shape[-1] // num)


def quantiles(
    config: QuantileQConfig, critic: Any, observation: Float[Array, "B O"]
) -> Float[Array, "B n A"]:
    """θ_i(s, ·), quantiles of the return; their mean is Q(s, ·)."""
    return outputs(config, critic, observation, config.num_quantiles)


def action_values(
    config: QuantileQConfig, state: DiscreteQState, observation: Float[Array, "B O"]
) -> Float[Array, "B A"]:
    """Q(s, ·)."""
    return jnp.mean(quantiles(config, state.critic.params, observation), axis=1)


def greedy(q: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """argmax_a Q(s, a) as a one-hot row."""
    return jax.nn.one_hot(jnp.argmax(q, axis=-1), q.shape[-1])


def of_action(values: Float[Array, "B *n A"], action: Float[Array, "B A"]) -> Float[Array, "B *n"]:
    """The numbers of one action a state."""
    action = action.reshape(action.shape[0], *[1] * (values.ndim - 2), action.shape[1])
    return jnp.sum(values * action, axis=-1)


def of_actions(q: Float[Array, "B A"], action: Float[Array, "B *N A"]) -> Float[Array, "1 B *N"]:
    """Q(s, a) of one action a state or several: an `Algorithm.q_values` of the one critic."""
    q = q.reshape(q.shape[0], *[1] * (action.ndim - 2), q.shape[1])
    return jnp.sum(q * action, axis=-1)[None]


def td_loss(
    config: QuantileQConfig, critic: Any, state: DiscreteQState, batch: Transition
) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, "B A"]]]:
    """mean_b L_κ( y − Q(s, a) ),   y = r + γ (1 − d) Q̄(s′, argmax_a′ Q(s′, a′)),

    with the argmax of Q̄ itself unless `double`; with n quantiles the quantile Huber loss of
    r + γ (1 − d) θ̄_j(s′, ·) against θ_i(s, a). Returns Q(s, ·) too, for penalties to share.

    Source: Mnih et al. 2015 (DQN); van Hasselt et al. 2016 (double), arXiv:1509.06461; Dabney et
    al. 2018 (QR-DQN), arXiv:1710.10044, algorithm 1.
    """
    next_quantiles = quantiles(config, state.target_critic, batch.next_observation)
    chooser = next_quantiles
    if config.double:
        chooser = quantiles(config, state.critic.params, batch.next_observation)
    next_action = greedy(jnp.mean(chooser, axis=1))
    next_value = of_action(next_quantiles, next_action)  # (B, n)
    targets = jax.vmap(td_target, in_axes=(None, None, 1, None), out_axes=1)
    target = targets(batch.reward, batch.terminal, next_value, config.discount)
    theta = quantiles(config, critic, batch.observation)
    taken = of_action(theta, batch.action)
    if config.num_quantiles == 1:
        losses = huber_loss(target - taken, config.huber_threshold)
    else:
        losses = quantile_huber_loss(taken, target, config.huber_threshold)
    loss = jnp.mean(losses)
    metrics = {"critic/td_loss": loss, "critic/q": jnp.mean(taken)}
    return loss, (metrics, jnp.mean(theta, axis=1))


def update(
    config: DiscreteQConfig, state: DiscreteQState, batch: Transition, loss: Callable
) -> tuple[DiscreteQState, Metrics]:
    """One Adam step on `loss(config, critic, state, batch) -> (loss, metrics)`. Every
    `target_update_period` steps the target follows."""
    critic, metrics = state.critic.minimize(
        lambda critic: loss(config, critic, state, batch), config.critic_learning_rate
    )
    step = state.step + 1
    rate = jnp.where(step % config.target_update_period == 0, config.target_update_rate, 0.0)
    target_critic = polyak(state.target_critic, critic.params, rate)
    return DiscreteQState(step, critic, target_critic), metrics


def act(
    config: QuantileQConfig,
    state: DiscreteQState,
    observation: Float[Array, "B O"],
    key: Key | None,
) -> Float[Array, "B A"]:
    """argmax_a Q(s, a), with or without a key."""
    del key
    return greedy(action_values(config, state, observation))


def value(
    config: QuantileQConfig, state: DiscreteQState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """max_a Q(s, a)."""
    return jnp.max(action_values(config, state, observation), axis=-1)


def q_values(
    config: QuantileQConfig,
    state: DiscreteQState,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "1 B *N"]:
    return of_actions(action_values(config, state, observation), action)
