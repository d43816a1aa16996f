"""MARWIL: cloning weighted by e^{βA/c}, with the data's returns and a value that regresses them.

Citation: Wang et al. 2018, "Exponentially weighted imitation learning for batched historical data".
Update order: the norm c, then value and actor from the same old parameters.
Checked against: RLlib (ray-project/ray, rllib/algorithms/marwil). Departures: the weight is clipped
where RLlib's overflows; one σ for all states; the return of a cut episode ends there, RLlib's goes
on with V: do not shift rewards below zero where episodes are cut.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.relabel import with_discounted_returns
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import exponential_weight, weighted_likelihood_loss
from offrl_jax.networks.heads import (
    init_tanh_mean_policy,
    init_value,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class MARWILConfig:
    discount: float = setting(0.99, "γ of the returns", low=0, high=1)
    inverse_temperature: float = setting(1.0, "β; 0 is cloning", low=0)
    max_weight: float = setting(20.0, "clip of the weight", low=1)
    norm_start: float = setting(100.0, "c² at the start, the running mean of A²", low=1e-6)
    norm_update_rate: float = setting(
        1e-8, "rate of the running mean of A²; RLlib's, which hardly moves it", low=0, high=1
    )
    value_weight: float = setting(1.0, "weight of the value's loss, which has a ½", low=0)
    learning_rate: float = setting(1e-4, "Adam's step size for actor and value", low=0)
    actor_network: nn.Module = network_setting(MLP(), "actor's network")
    value_network: nn.Module = network_setting(MLP(), "network of V")
    batch_size: int = setting(2000, "transitions a step", low=1)


class MARWILState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    value: Trainable
    squared_norm: Float[Array, ""]  # c²


def init(config: MARWILConfig, spec: Spec, key: Key) -> MARWILState:
    actor_key, value_key = jax.random.split(key)
    return MARWILState(
        step=jnp.int32(0),
        actor=Trainable.create(init_tanh_mean_policy(config.actor_network, spec, actor_key)),
        value=Trainable.create(init_value(config.value_network, spec, value_key)),
        squared_norm=jnp.float32(config.norm_start),
    )


def value_loss(
    config: MARWILConfig, value: Any, batch: Transition
) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, "B"]]]:
    """w_V ½ mean_b A²,   A = R − V(s) with the discounted return R to the episode's end.

    Returns the loss; metrics and A.
    """
    advantage = batch.return_to_go - state_value(config.value_network, value, batch.observation)
    loss = config.value_weight * 0.5 * jnp.mean(jnp.square(advantage))
    return loss, ({"value/loss": loss}, advantage)


def actor_loss(
    config: MARWILConfig, actor: Any, batch: Transition, weight: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b w_b log π(a|s)."""
    policy = tanh_mean_policy(config.actor_network, actor, batch.observation)
    loss = weighted_likelihood_loss(weight, policy.log_prob(batch.action))
    return loss, {"actor/loss": loss, "actor/weight": jnp.mean(weight)}


def update(
    config: MARWILConfig, state: MARWILState, batch: Transition, key: Key
) -> tuple[MARWILState, Metrics]:
    """w = min( e^{β A / c}, w_max ),   c² ← c² + rate (mean A² − c²) before it is used.

    Source: Wang et al. 2018, algorithm 1.
    """
    del key
    value, (value_metrics, advantage) = state.value.minimize(
        lambda value: value_loss(config, value, batch), config.learning_rate
    )
    squared_norm = state.squared_norm + config.norm_update_rate * (
        jnp.mean(jnp.square(advantage)) - state.squared_norm
    )
    norm = jnp.sqrt(squared_norm)
    scaled = config.inverse_temperature * advantage / norm
    weight = exponential_weight(scaled, config.max_weight)
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch, weight), config.learning_rate
    )
    state = MARWILState(state.step + 1, actor, value, squared_norm)
    return state, value_metrics | actor_metrics | {"actor/advantage_norm": norm}


def act(
    config: MARWILConfig, state: MARWILState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = tanh_mean_policy(config.actor_network, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample(key)


def value(
    config: MARWILConfig, state: MARWILState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """V(s), which is that of the data's own behaviour."""
    return state_value(config.value_network, state.value.params, observation)


def phases(config: MARWILConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((update,), relabel=with_discounted_returns),)


marwil = Algorithm(
    name="marwil",
    Config=MARWILConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Wang et al. 2018, Exponentially weighted imitation learning",
    phases=phases,
)
