"""Behaviour cloning: supervised regression of the data's actions.

Citation: Pomerleau 1991; as an offline-RL baseline Fu et al. 2020, arXiv:2004.07219.
Percentile cloning is the same on `data.keep_best_episodes`.
Checked against: CORL's `any_percent_bc.py` (the MSE form).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.networks.distributions import Categorical, TanhGaussian
from offrl_jax.networks.modules import (
    categorical_policy,
    deterministic_policy,
    gaussian_policy,
    init_policy,
)
from offrl_jax.networks.optimizers import adam_step
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
    hidden_sizes: tuple[int, ...] = setting((256, 256), "hidden layers of the policy", low=1)
    batch_size: int = setting(256, "transitions a step", low=1)


class BCState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    actor_optimizer: Any


def init(config: BCConfig, spec: Spec, key: Key) -> BCState:
    heads = 2 if config.policy == "gaussian" else 1
    actor = init_policy(config.hidden_sizes, spec.observation_size, heads * spec.action_size, key)
    return BCState(jnp.int32(0), actor, optax.adam(config.learning_rate).init(actor))


def actor_loss(actor: Any, batch: Transition, config: BCConfig) -> Float[Array, ""]:
    """−mean_b log π(a|s) for a tanh-Gaussian and a categorical, mean_b mean_A (π(s) − a)² for a
    deterministic policy.

    The last is the first with a fixed variance and no squashing, and so averages modes.
    """
    if config.policy != "deterministic":
        return -jnp.mean(policy_of(config, actor, batch.observation).log_prob(batch.action))
    action = deterministic_policy(config.hidden_sizes, actor, batch.observation)
    return jnp.mean(jnp.square(action - batch.action))


def policy_of(
    config: BCConfig, actor: Any, observation: Float[Array, "B O"]
) -> TanhGaussian | Categorical:
    """π(·|s), where it is a distribution."""
    family = {"gaussian": gaussian_policy, "categorical": categorical_policy}[config.policy]
    return family(config.hidden_sizes, actor, observation)


def update(
    config: BCConfig, state: BCState, batch: Transition, key: Key
) -> tuple[BCState, Metrics]:
    """One Adam step on the cloning loss; needs no randomness."""
    del key
    loss, gradient = jax.value_and_grad(actor_loss)(state.actor, batch, config)
    actor, optimizer = adam_step(config.learning_rate, gradient, state.actor, state.actor_optimizer)
    return BCState(state.step + 1, actor, optimizer), {"actor/loss": loss}


def act(
    config: BCConfig, state: BCState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    if config.policy == "deterministic":
        return deterministic_policy(config.hidden_sizes, state.actor, observation)
    policy = policy_of(config, state.actor, observation)
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
