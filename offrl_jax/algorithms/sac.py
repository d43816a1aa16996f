"""Soft actor-critic on a fixed dataset: the unconstrained baseline; with E critics, SAC-N.

Citation: Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548.
Update order: the gradients of actor, critics and temperature are taken at the same old parameters,
then all step, then the target critics follow.
Checked against: the authors' EDAC code (`num_critics`, sum over critics of the mean squared error).
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax import soft_actor_critic
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.losses.td import td_target
from offrl_jax.soft_actor_critic import (
    SoftActorCriticConfig,
    SoftActorCriticState,
    actor_loss,
    apply_gradients,
    next_state_value,
    policy_of,
    q_values,
    temperature_loss,
)
from offrl_jax.types import Array, Float, Key, Metrics, Transition


def critic_loss(
    critic: Any, batch: Transition, target: Float[Array, "B"], config: SoftActorCriticConfig
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − y )².

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5.
    Departs from the paper: no factor ½; summed over critics, as the SAC-N authors do.
    """
    q = q_values(config, critic, batch.observation, batch.action)
    loss = jnp.sum(jnp.mean(jnp.square(q - target[None]), axis=1))
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q)}


def update(
    config: SoftActorCriticConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    actor_key, next_key = jax.random.split(key)
    (policy_loss, (_, log_prob)), actor_gradient = jax.value_and_grad(actor_loss, has_aux=True)(
        state.actor, state, batch, actor_key, config
    )

    next_policy = policy_of(config, state.actor, batch.next_observation)
    next_action, next_log_prob = next_policy.sample_and_log_prob(next_key)
    next_value = next_state_value(config, state, batch, next_action, next_log_prob)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    critic_gradient, metrics = jax.grad(critic_loss, has_aux=True)(
        state.critic, batch, target, config
    )

    target_entropy = config.target_entropy_per_action * batch.action.shape[-1]
    temperature_gradient = jax.grad(temperature_loss)(
        state.log_temperature, log_prob, target_entropy
    )
    metrics |= {
        "actor/loss": policy_loss,
        "actor/entropy": -jnp.mean(log_prob),
        "actor/temperature": jnp.exp(state.log_temperature),
    }
    state = apply_gradients(
        config,
        state,
        actor_gradient=actor_gradient,
        critic_gradient=critic_gradient,
        temperature_gradient=temperature_gradient,
    )
    return state, metrics


sac = Algorithm(
    name="sac",
    Config=SoftActorCriticConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548",
)
