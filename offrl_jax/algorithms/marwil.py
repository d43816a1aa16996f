"""MARWIL: cloning weighted by e^{βA/c}, with the data's returns and a value that regresses them.

Citation: Wang et al. 2018, "Exponentially weighted imitation learning for batched historical data".
Update order: the norm c, then value and actor from the same old parameters.
Checked against: RLlib (ray-project/ray, rllib/algorithms/marwil). Departures: the weight is clipped
where RLlib's overflows; one σ for all states; the return of a cut episode ends there, RLlib's goes
on with V: do not shift rewards below zero where episodes are cut.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.relabel import with_discounted_returns
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import exponential_weight, weighted_likelihood_loss
from offrl_jax.networks.modules import (
    init_tanh_mean_policy,
    init_value,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.optimizers import adam_step
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
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), "the value's hidden layers", low=1)
    batch_size: int = setting(2000, "transitions a step", low=1)


class MARWILState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    value: Any
    squared_norm: Float[Array, ""]  # c²
    actor_optimizer: Any
    value_optimizer: Any


def init(config: MARWILConfig, spec: Spec, key: Key) -> MARWILState:
    actor_key, value_key = jax.random.split(key)
    actor = init_tanh_mean_policy(config.actor_hidden_sizes, spec, actor_key)
    value = init_value(config.critic_hidden_sizes, spec, value_key)
    optimizer = optax.adam(config.learning_rate)
    return MARWILState(
        step=jnp.int32(0),
        actor=actor,
        value=value,
        squared_norm=jnp.float32(config.norm_start),
        actor_optimizer=optimizer.init(actor),
        value_optimizer=optimizer.init(value),
    )


def value_loss(
    value: Any, batch: Transition, config: MARWILConfig
) -> tuple[Float[Array, ""], Float[Array, "B"]]:
    """w_V ½ mean_b A²,   A = R − V(s) with the discounted return R to the episode's end.

    Returns the loss and A.
    """
    advantage = batch.return_to_go - state_value(
        config.critic_hidden_sizes, value, batch.observation
    )
    return config.value_weight * 0.5 * jnp.mean(jnp.square(advantage)), advantage


def actor_loss(
    actor: Any, batch: Transition, weight: Float[Array, "B"], config: MARWILConfig
) -> Float[Array, ""]:
    """−mean_b w_b log π(a|s)."""
    policy = tanh_mean_policy(config.actor_hidden_sizes, actor, batch.observation)
    return weighted_likelihood_loss(weight, policy.log_prob(batch.action))


def update(
    config: MARWILConfig, state: MARWILState, batch: Transition, key: Key
) -> tuple[MARWILState, Metrics]:
    """w = min( e^{β A / c}, w_max ),   c² ← c² + rate (mean A² − c²) before it is used.

    Source: Wang et al. 2018, algorithm 1.
    """
    del key
    (loss, advantage), value_gradient = jax.value_and_grad(value_loss, has_aux=True)(
        state.value, batch, config
    )
    squared_norm = state.squared_norm + config.norm_update_rate * (
        jnp.mean(jnp.square(advantage)) - state.squared_norm
    )
    scaled = config.inverse_temperature * advantage / jnp.sqrt(squared_norm)
    weight = exponential_weight(scaled, config.max_weight)
    policy_loss, actor_gradient = jax.value_and_grad(actor_loss)(state.actor, batch, weight, config)
    value, value_optimizer = adam_step(
        config.learning_rate, value_gradient, state.value, state.value_optimizer
    )
    actor, actor_optimizer = adam_step(
        config.learning_rate, actor_gradient, state.actor, state.actor_optimizer
    )
    state = MARWILState(
        state.step + 1, actor, value, squared_norm, actor_optimizer, value_optimizer
    )
    return state, {
        "value/loss": loss,
        "actor/loss": policy_loss,
        "actor/weight": jnp.mean(weight),
        "actor/advantage_norm": jnp.sqrt(squared_norm),
    }


def act(
    config: MARWILConfig, state: MARWILState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = tanh_mean_policy(config.actor_hidden_sizes, state.actor, observation)
    return policy.mode() if key is None else policy.sample(key)


def value(
    config: MARWILConfig, state: MARWILState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """V(s), which is that of the data's own behaviour."""
    return state_value(config.critic_hidden_sizes, state.value, observation)


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
