"""EDAC: SAC-N with a penalty for critics whose slopes in the data's actions agree, so that a
smaller ensemble penalises unseen actions.

Citation: An et al. 2021, arXiv:2110.01548.
Update order: actor, temperature and critics, all from the same old parameters; then the target
critics.
Checked against: the authors' code (snu-mllab/EDAC at 198d570). Departures: parameters start as
everywhere here, not from biases of 0.1 and small last layers; a max backup asks the target critics,
where theirs asks the online ones.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import soft_actor_critic
from offrl_jax.algorithms.common.critics import state_q_values
from offrl_jax.algorithms.common.soft_actor_critic import (
    Context,
    SoftActorCriticConfig,
    SoftActorCriticState,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import ensemble_loss
from offrl_jax.networks import piecewise_linear
from offrl_jax.networks.heads import critic_values_and_slopes
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Key, Metrics, Transition

SQUARED_NORM_FLOOR = 1e-12  # where every unit is dead the gradient has no direction


@config
class EDACConfig(SoftActorCriticConfig):
    diversity_weight: float = setting(
        1.0, "η of the critics' pairwise similarity; 0 is SAC-N", low=0
    )
    num_critics: int = setting(10, "E, critics whose minimum is used", low=2)
    actor_network: nn.Module = network_setting(MLP((256, 256, 256)), "actor's network")
    critic_network: nn.Module = network_setting(MLP((256, 256, 256)), "network of each critic")


def diversity_loss(slope: Float[Array, "E B A"]) -> Float[Array, ""]:
    """mean_b 1/(E − 1) Σ_{i≠j} ⟨g_i, g_j⟩,  g_i = ∇_a Q_i / ‖∇_a Q_i‖.

    E for identical critics, 0 for orthogonal ones. The sum over pairs is |Σ_i g_i|² − Σ_i |g_i|².

    Source: An et al. 2021, arXiv:2110.01548, eq. 5.
    """
    squared_norm = jnp.sum(jnp.square(slope), axis=-1, keepdims=True)
    unit = slope * jax.lax.rsqrt(squared_norm + SQUARED_NORM_FLOOR)
    of_sum = jnp.sum(jnp.square(jnp.sum(unit, axis=0)), axis=-1)
    of_each = jnp.sum(jnp.square(unit), axis=(0, 2))
    return jnp.mean(of_sum - of_each) / (slope.shape[0] - 1)


def objective(
    config: EDACConfig, q: Float[Array, "E B"], slope: Float[Array, "E B A"], context: Context
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b (Q_k(s, a) − y)² + η `diversity_loss` of ∇_a Q_k(s, a), (s, a) ~ D.

    Source: An et al. 2021, arXiv:2110.01548, algorithm 1.
    """
    diversity = diversity_loss(slope)
    loss = ensemble_loss(q, context.target) + config.diversity_weight * diversity
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q), "critic/similarity": diversity}


def critic_loss(
    config: EDACConfig, critic: Any, context: Context
) -> tuple[Float[Array, ""], Metrics]:
    """`objective` as a function of the critics' parameters."""
    observation, action = context.batch.observation, context.batch.action
    q, slope = critic_values_and_slopes(config.critic_network, critic, observation, action)
    return objective(config, q, slope, context)


def critic_gradient(config: EDACConfig, critic: Any, context: Context) -> tuple[Any, Metrics]:
    """Gradient and metrics of `critic_loss`. For ReLU networks it takes one pass."""
    if not piecewise_linear.is_piecewise_linear(config.critic_network):
        return jax.grad(critic_loss, argnums=1, has_aux=True)(config, critic, context)
    inputs = context.batch.observation, context.batch.action
    q, slope, alive = piecewise_linear.values_and_slopes(critic, *inputs)
    (of_value, of_slope), metrics = jax.grad(objective, argnums=(1, 2), has_aux=True)(
        config, q, slope, context
    )
    gradient = piecewise_linear.gradient_of_both(
        critic, *inputs, alive, of_value=of_value, of_slope=of_slope
    )
    return gradient, metrics


def update(
    config: EDACConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    after, context, metrics = soft_actor_critic.policy_step(config, state, batch, key)
    gradient, critic_metrics = critic_gradient(config, state.critic.params, context)
    return soft_actor_critic.critic_step(config, after, gradient), metrics | critic_metrics


edac = Algorithm(
    name="edac",
    Config=EDACConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="An et al. 2021, arXiv:2110.01548",
    q_values=state_q_values,
)
