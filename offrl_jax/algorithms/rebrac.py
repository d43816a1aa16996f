"""ReBRAC: TD3+BC with a penalty in the critics' target too, LayerNorm critics and deeper networks.

Citation: Tarasov et al. 2023, arXiv:2305.09836.
Update order: critics; every `policy_delay` steps the actor, then all targets.
Checked against: the authors' code (DT6A/ReBRAC at 7f4df8a). Departures: the target has no lower
bound at Monte-Carlo returns, which the paper does not have; the target actor follows the actor
after its step, not before it, and the actor steps last of every `policy_delay` steps, not first, as
in TD3; parameters start as everywhere here, not from biases of 0.1 and small last layers.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import twin_delayed
from offrl_jax.algorithms.common.critics import minimum_q, state_q_values
from offrl_jax.algorithms.common.twin_delayed import TwinDelayedConfig, TwinDelayedState
from offrl_jax.config import config, setting
from offrl_jax.networks.heads import deterministic_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class ReBRACConfig(TwinDelayedConfig):
    actor_bc_weight: float = setting(
        0.01, "β₁ of the squared error summed over action dimensions, in the actor's loss", low=0
    )
    critic_bc_weight: float = setting(
        0.01, "β₂ of the same in the critics' target, at the next state", low=0
    )
    normalize_q: bool = setting(True, "whether the actor's Q is divided by mean |Q|")
    actor_network: nn.Module = network_setting(MLP((256, 256, 256)), "actor's network")
    critic_network: nn.Module = network_setting(
        MLP((256, 256, 256), layer_norm=True), "network of each critic"
    )


def penalized_next_state_value(
    config: ReBRACConfig,
    state: TwinDelayedState,
    batch: Transition,
    next_action: Float[Array, "B A"],
) -> Float[Array, "B"]:
    """V̄(s′) = min_k Q̄_k(s′, ã′) − β₂ Σ_A (ã′ − a′)², a′ being the data's next action.

    Source: Tarasov et al. 2023, arXiv:2305.09836, eq. 2.
    Departs from the paper: no penalty where the episode was cut and a′ is unknown.
    """
    error = jnp.sum(jnp.square(next_action - batch.next_action), axis=-1)
    penalty = config.critic_bc_weight * batch.next_action_valid * error
    return twin_delayed.next_state_value(config, state, batch, next_action) - penalty


def actor_loss(
    config: ReBRACConfig, actor: Any, critic: Any, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b [ β₁ Σ_A (π(s) − a)² − λ min_k Q_k(s, π(s)) ],   λ = 1 / sg mean_b |min_k Q_k|.

    Source: Tarasov et al. 2023, arXiv:2305.09836, eq. 2, with the normalisation of the authors'
    code.
    """
    action = deterministic_policy(config.actor_network, actor, batch.observation)
    q = minimum_q(config, critic, batch.observation, action)
    q_scale = 1 / jax.lax.stop_gradient(jnp.mean(jnp.abs(q))) if config.normalize_q else 1.0
    cloning_error = jnp.mean(jnp.sum(jnp.square(action - batch.action), axis=-1))
    loss = config.actor_bc_weight * cloning_error - q_scale * jnp.mean(q)
    return loss, {"actor/loss": loss, "actor/cloning_error": cloning_error}


def critic_update(
    config: ReBRACConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> tuple[TwinDelayedState, Metrics]:
    """The steps between two of the actor."""
    return twin_delayed.critic_step(config, state, batch, key, penalized_next_state_value)


def update(
    config: ReBRACConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> tuple[TwinDelayedState, Metrics]:
    state, critic_metrics = critic_update(config, state, batch, key)
    state, actor_metrics = twin_delayed.actor_step(config, state, batch, actor_loss)
    return state, critic_metrics | actor_metrics


def phases(config: ReBRACConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((critic_update,) * (config.policy_delay - 1) + (update,)),)


rebrac = Algorithm(
    name="rebrac",
    Config=ReBRACConfig,
    init=twin_delayed.init,
    update=update,
    act=twin_delayed.act,
    value=twin_delayed.value,
    citation="Tarasov et al. 2023, arXiv:2305.09836",
    phases=phases,
    q_values=state_q_values,
)
