"""NAME: what it does, in one line.

Citation: the paper.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.networks.heads import deterministic_policy, init_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


# Every field is a flag, --config.NAME. Floats can be swept in one program, so no Python `if` may
# depend on one; every other type selects another program.
@config
class TemplateConfig:
    learning_rate: float = setting(3e-4, "Adam's step size", low=0)
    network: nn.Module = network_setting(MLP((256, 256)), "policy's network")
    batch_size: int = setting(256, "transitions a step", low=1)


# Everything that training changes: parameters with their optimiser's state, target parameters.
class TemplateState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable


def init(config: TemplateConfig, spec: Spec, key: Key) -> TemplateState:
    """Initial parameters. Split the key if there are several networks."""
    actor = init_policy(config.network, spec.action_size, spec, key)
    return TemplateState(jnp.int32(0), Trainable.create(actor))


# Change this: the equation of your paper.
def actor_loss(
    config: TemplateConfig, actor: Any, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b mean_A (π(s) − a)². Metrics are scalars named part/name; one is part/loss."""
    action = deterministic_policy(config.network, actor, batch.observation)
    loss = jnp.mean(jnp.square(action - batch.action))
    return loss, {"actor/loss": loss}


def update(
    config: TemplateConfig, state: TemplateState, batch: Transition, key: Key
) -> tuple[TemplateState, Metrics]:
    """One Adam step."""
    del key  # split it if the update draws random numbers
    actor, metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch), config.learning_rate
    )
    return TemplateState(state.step + 1, actor), metrics


def act(
    config: TemplateConfig, state: TemplateState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """Without a key the mode, with a key a sample. Here both are the same."""
    return deterministic_policy(config.network, state.actor.params, observation)


template = Algorithm(
    name="template",
    Config=TemplateConfig,
    init=init,
    update=update,
    act=act,
    value=None,  # (config, state, observation) -> (B,), where there is a critic
    citation="unpublished",
)
