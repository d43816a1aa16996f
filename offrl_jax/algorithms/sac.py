"""Soft actor-critic on a fixed dataset: the unconstrained baseline; with E critics, SAC-N; with
DisCor's weights of the TD loss as an option.

Citation: Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548; DisCor:
Kumar et al. 2020, arXiv:2003.07305.
Update order: `soft_actor_critic.update`; with DisCor the error networks too, on the same old
critics, and their targets with the critics' targets.
Checked against: the authors' EDAC code (`num_critics`, sum over critics of the mean squared error);
DisCor: a public reimplementation (toshikwa/discor.pytorch at 24fca75).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import critics, distribution_correction, soft_actor_critic
from offrl_jax.algorithms.common.distribution_correction import ErrorState
from offrl_jax.algorithms.common.soft_actor_critic import (
    SoftActorCriticConfig,
    SoftActorCriticState,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import discor_weights, ensemble_loss
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


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


class DisCorState(NamedTuple):
    """`SoftActorCriticState` and the error networks' state; where the weights are uniform, SAC's is
    the former alone."""

    step: Int[Array, ""]
    actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    log_temperature: Float[Array, ""]
    actor_optimizer: Any
    critic_optimizer: Any
    temperature_optimizer: Any
    error: ErrorState


def init(config: SACConfig, spec: Spec, key: Key) -> SoftActorCriticState | DisCorState:
    state = soft_actor_critic.init(config, spec, key)
    if config.td_weighting == "uniform":
        return state
    error_key = jax.random.fold_in(key, 1)
    return DisCorState(*state, distribution_correction.init(config, spec, error_key))


def critic_loss(
    critic: Any,
    state: SoftActorCriticState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: SACConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """`critics.critic_loss`; the other arguments are for losses that constrain."""
    del state, policy, next_policy, key
    return critics.critic_loss(critic, batch, target, config)


def weighted_critic_loss(
    critic: Any,
    batch: Transition,
    target: Float[Array, "B"],
    weight: Float[Array, "E B"],
    config: SACConfig,
) -> tuple[Float[Array, ""], tuple[Float[Array, "E B"], Metrics]]:
    """Σ_k Σ_b w_kb ( Q_k(s, a) − y )²; and |Q_k(s, a) − y|.

    Source: Kumar et al. 2020 (DisCor), arXiv:2003.07305.
    """
    q = critics.q_values(config, critic, batch.observation, batch.action)
    loss = ensemble_loss(q, target, weight)
    metrics = {
        "critic/loss": loss,
        "critic/q": jnp.mean(q),
        "critic/effective_batch": jnp.mean(1.0 / jnp.sum(jnp.square(weight), axis=1)),
    }
    return loss, (jnp.abs(q - target[None]), metrics)


def discor_gradient(
    critic: Any,
    state: DisCorState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: SACConfig,
) -> tuple[Any, Metrics]:
    """Gradient of `weighted_critic_loss`; among the metrics `error`, the state of the error
    networks after their step on the same batch."""
    del policy
    next_error = distribution_correction.next_error(config, state.error, batch, next_policy, key)
    weight = discor_weights(next_error, batch.terminal, config.discount, state.error.temperature)
    gradient, (td_error, metrics) = jax.grad(weighted_critic_loss, has_aux=True)(
        critic, batch, target, weight, config
    )
    error, error_metrics = distribution_correction.step(
        config, state.error, batch, td_error, next_error
    )
    return gradient, metrics | error_metrics | {"error": error}


def update(
    config: SACConfig, state: SoftActorCriticState | DisCorState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState | DisCorState, Metrics]:
    if config.td_weighting == "uniform":
        gradient = jax.grad(critic_loss, has_aux=True)
        return soft_actor_critic.update(config, state, batch, key, gradient)
    state, metrics = soft_actor_critic.update(config, state, batch, key, discor_gradient)
    return state._replace(error=metrics.pop("error")), metrics


sac = Algorithm(
    name="sac",
    Config=SACConfig,
    init=init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation=(
        "Haarnoja et al. 2018, arXiv:1812.05905; SAC-N: An et al. 2021, arXiv:2110.01548; DisCor: "
        "Kumar et al. 2020, arXiv:2003.07305"
    ),
    q_values=critics.state_q_values,
)
