"""NAME: what it does, in one line.

Citation: the paper.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.networks.modules import deterministic_policy, init_policy
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


# Every field is a flag, --config.NAME. Floats can be swept in one program, so no Python `if` may
# depend on one; every other type selects another program.
@config
class TemplateConfig:
    learning_rate: float = setting(3e-4, "Adam's step size", low=0)
    hidden_sizes: tuple[int, ...] = setting((256, 256), "hidden layers of the policy", low=1)
    batch_size: int = setting(256, "transitions a step", low=1)


# All that changes in training: parameters, the optimizers' states, targets.
class TemplateState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    actor_optimizer: Any


def init(config: TemplateConfig, spec: Spec, key: Key) -> TemplateState:
    """Fresh parameters; split the key for each network."""
    actor = init_policy(config.hidden_sizes, spec.observation_size, spec.action_size, key)
    return TemplateState(jnp.int32(0), actor, optax.adam(config.learning_rate).init(actor))


# Change this: the equation of your paper.
def actor_loss(actor: Any, batch: Transition, config: TemplateConfig) -> Float[Array, ""]:
    """mean_b mean_A (π(s) − a)²."""
    action = deterministic_policy(config.hidden_sizes, actor, batch.observation)
    return jnp.mean(jnp.square(action - batch.action))


def update(
    config: TemplateConfig, state: TemplateState, batch: Transition, key: Key
) -> tuple[TemplateState, Metrics]:
    """One Adam step. Metrics are scalars named part/what, one of them a loss."""
    del key  # split it where the update draws random numbers
    loss, gradient = jax.value_and_grad(actor_loss)(state.actor, batch, config)
    actor, optimizer = adam_step(config.learning_rate, gradient, state.actor, state.actor_optimizer)
    return TemplateState(state.step + 1, actor, optimizer), {"actor/loss": loss}


def act(
    config: TemplateConfig, state: TemplateState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The mode without a key, a sample with one; here both are the same."""
    return deterministic_policy(config.hidden_sizes, state.actor, observation)


template = Algorithm(
    name="template",
    Config=TemplateConfig,
    init=init,
    update=update,
    act=act,
    value=None,  # (config, state, observation) -> (B,), where there is a critic
    citation="unpublished",
)
