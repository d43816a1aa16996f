"""TD3+BC: twin-delayed DDPG whose actor also clones the data's actions.

Citation: Fujimoto and Gu 2021, arXiv:2106.06860.
Update order: critics; every `policy_delay` steps the actor, then all targets.
Checked against: the authors' code (sfujim/TD3_BC at 8791ad7).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import twin_delayed
from offrl_jax.algorithms.common.critics import q_values, state_q_values
from offrl_jax.algorithms.common.twin_delayed import TwinDelayedConfig, TwinDelayedState
from offrl_jax.config import config, setting
from offrl_jax.networks.heads import deterministic_policy, first
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class TD3BCConfig(TwinDelayedConfig):
    q_weight: float = setting(
        2.5, "α: how much the normalised Q counts beside the cloning error; 0 is cloning", low=0
    )


def actor_loss(
    config: TD3BCConfig, actor: Any, critic: Any, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """−λ mean_b Q_1(s, π(s)) + mean_b mean_A (π(s) − a)²,   λ = α / sg mean_b |Q_1(s, π(s))|.

    Source: Fujimoto and Gu 2021, arXiv:2106.06860, eq. 5 and eq. 6.
    Departs from the paper: |Q| is averaged over the policy's actions, as in the authors' code.
    """
    action = deterministic_policy(config.actor_network, actor, batch.observation)
    q = q_values(config, first(critic), batch.observation, action)[0]
    q_scale = config.q_weight / jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
    cloning_error = jnp.mean(jnp.square(action - batch.action))
    loss = -q_scale * jnp.mean(q) + cloning_error
    return loss, {"actor/loss": loss, "actor/cloning_error": cloning_error}


def critic_update(
    config: TD3BCConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> tuple[TwinDelayedState, Metrics]:
    """The steps between two of the actor."""
    return twin_delayed.critic_step(config, state, batch, key)


def update(
    config: TD3BCConfig, state: TwinDelayedState, batch: Transition, key: Key
) -> tuple[TwinDelayedState, Metrics]:
    state, critic_metrics = critic_update(config, state, batch, key)
    state, actor_metrics = twin_delayed.actor_step(config, state, batch, actor_loss)
    return state, critic_metrics | actor_metrics


def phases(config: TD3BCConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((critic_update,) * (config.policy_delay - 1) + (update,)),)


td3_bc = Algorithm(
    name="td3_bc",
    Config=TD3BCConfig,
    init=twin_delayed.init,
    update=update,
    act=twin_delayed.act,
    value=twin_delayed.value,
    citation="Fujimoto and Gu 2021, arXiv:2106.06860",
    phases=phases,
    q_values=state_q_values,
)
