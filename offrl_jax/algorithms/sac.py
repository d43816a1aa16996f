"""Soft actor-critic on a fixed dataset: the unconstrained baseline; with E critics, SAC-N; with
DisCor's weights of the TD loss as an option.

Citation: Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548; DisCor:
Kumar et al. 2020, arXiv:2003.07305.
Update order: actor, temperature, critics and, with DisCor, error networks, all from the same old
parameters; then the targets of critics and error networks.
Checked against: the authors' EDAC code (`num_critics`, sum over critics of the mean squared error);
DisCor: a public reimplementation (toshikwa/discor.pytorch at 24fca75).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import critics, distribution_correction, soft_actor_critic
from offrl_jax.algorithms.common.agents import of_agent
from offrl_jax.algorithms.common.distribution_correction import ErrorState
from offrl_jax.algorithms.common.soft_actor_critic import (
    Context,
    SoftActorCriticConfig,
    SoftActorCriticState,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import discor_weights, ensemble_loss
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition


@config
class SACConfig(SoftActorCriticConfig):
    td_weighting: str = setting(
        "uniform",
        "weights of the TD loss. discor: small where the target is thought wrong",
        choices=("uniform", "discor"),
    )
    initial_error_temperature: float = setting(
        10.0, "T of DisCor's weights at the start; then a moving average of the errors", low=1e-6
    )
    error_network: nn.Module = network_setting(
        MLP((256, 256, 256)), "network of DisCor's error model of each critic"
    )


class SACState(NamedTuple):
    agent: SoftActorCriticState
    error: ErrorState | None  # DisCor's

    @property
    def step(self) -> Array:
        return self.agent.step


def init(config: SACConfig, spec: Spec, key: Key) -> SACState:
    agent = soft_actor_critic.init(config, spec, key)
    if config.td_weighting == "uniform":
        return SACState(agent, None)
    error_key = jax.random.fold_in(key, 1)
    return SACState(agent, distribution_correction.init(config, spec, error_key))


def critic_loss(
    config: SACConfig, critic: Any, context: Context
) -> tuple[Float[Array, ""], Metrics]:
    """`critics.critic_loss`."""
    return critics.critic_loss(config, critic, context.batch, context.target)


def weighted_critic_loss(
    config: SACConfig, critic: Any, context: Context, weight: Float[Array, "E B"]
) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, "E B"]]]:
    """Σ_k Σ_b w_kb ( Q_k(s, a) − y )²; and |Q_k(s, a) − y|.

    Source: Kumar et al. 2020 (DisCor), arXiv:2003.07305.
    """
    q = critics.q_values(config, critic, context.batch.observation, context.batch.action)
    loss = ensemble_loss(q, context.target, weight)
    metrics = {
        "critic/loss": loss,
        "critic/q": jnp.mean(q),
        "critic/effective_batch": jnp.mean(1.0 / jnp.sum(jnp.square(weight), axis=1)),
    }
    return loss, (metrics, jnp.abs(q - context.target[None]))


def update(
    config: SACConfig, state: SACState, batch: Transition, key: Key
) -> tuple[SACState, Metrics]:
    critic, error = state.agent.critic.params, state.error
    agent, context, metrics = soft_actor_critic.policy_step(config, state.agent, batch, key)
    if error is None:
        gradient, critic_metrics = jax.grad(critic_loss, argnums=1, has_aux=True)(
            config, critic, context
        )
    else:
        next_error = distribution_correction.next_error(
            config, error, batch, context.next_policy, context.key
        )
        weight = discor_weights(next_error, batch.terminal, config.discount, error.temperature)
        gradient, (critic_metrics, td_error) = jax.grad(
            weighted_critic_loss, argnums=1, has_aux=True
        )(config, critic, context, weight)
        error, error_metrics = distribution_correction.step(
            config, error, batch, td_error=td_error, next_error=next_error
        )
        critic_metrics |= error_metrics
    agent = soft_actor_critic.critic_step(config, agent, gradient)
    return SACState(agent, error), metrics | critic_metrics


sac = Algorithm(
    name="sac",
    Config=SACConfig,
    init=init,
    update=update,
    act=of_agent(soft_actor_critic.act),
    value=of_agent(soft_actor_critic.value),
    citation=(
        "Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548; DisCor: "
        "Kumar et al. 2020, arXiv:2003.07305"
    ),
    q_values=of_agent(critics.state_q_values),
)
