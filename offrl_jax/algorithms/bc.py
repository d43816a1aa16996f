"""Behaviour cloning: supervised regression of the data's actions.

Citation: Pomerleau 1991; as an offline-RL baseline Fu et al. 2020, arXiv:2004.07219.
Percentile cloning is the same on `data.keep_best_episodes`.
Checked against: CORL's `any_percent_bc.py` (the MSE form).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.networks.distributions import Categorical, TanhGaussian
from offrl_jax.networks.heads import (
    categorical_policy,
    deterministic_policy,
    gaussian_policy,
    init_policy,
)
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class BCConfig:
    policy: str = setting(
        "gaussian",
        "gaussian: likelihood of a tanh-Gaussian; deterministic: mean squared error; categorical: "
        "likelihood of discrete actions",
        choices=("gaussian", "deterministic", "categorical"),
    )
    learning_rate: float = setting(3e-4, "Adam's step size", low=0)
    network: nn.Module = network_setting(MLP(), "policy's network", dropout=True)
    batch_size: int = setting(256, "transitions a step", low=1)


class BCState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable


def init(config: BCConfig, spec: Spec, key: Key) -> BCState:
    heads = 2 if config.policy == "gaussian" else 1
    actor = init_policy(config.network, heads * spec.action_size, spec, key)
    return BCState(jnp.int32(0), Trainable.create(actor))


def actor_loss(
    config: BCConfig, actor: Any, batch: Transition, key: Key | None = None
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b log π(a|s) for a tanh-Gaussian and a categorical, mean_b mean_A (π(s) − a)² for a
    deterministic policy.

    The last is the first with a fixed variance and no squashing, and so averages modes.
    """
    if config.policy == "deterministic":
        action = deterministic_policy(config.network, actor, batch.observation, key=key)
        loss = jnp.mean(jnp.square(action - batch.action))
    else:
        policy = policy_of(config, actor, batch.observation, key)
        loss = -jnp.mean(policy.log_prob(batch.action))
    return loss, {"actor/loss": loss}


def policy_of(
    config: BCConfig, actor: Any, observation: Float[Array, "B O"], key: Key | None = None
) -> TanhGaussian | Categorical:
    """π(·|s) of a stochastic policy. Dropout is active if a key is given."""
    family = {"gaussian": gaussian_policy, "categorical": categorical_policy}[config.policy]
    return family(config.network, actor, observation, key=key)


def update(
    config: BCConfig, state: BCState, batch: Transition, key: Key
) -> tuple[BCState, Metrics]:
    """One Adam step on the cloning loss."""
    actor, metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch, key), config.learning_rate
    )
    return BCState(state.step + 1, actor), metrics


def act(
    config: BCConfig, state: BCState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    if config.policy == "deterministic":
        return deterministic_policy(config.network, state.actor.params, observation)
    policy = policy_of(config, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample(key)


bc = Algorithm(
    name="bc",
    Config=BCConfig,
    init=init,
    update=update,
    act=act,
    value=None,
    citation="Pomerleau 1991",
    discrete=lambda config: config.policy == "categorical",
)
