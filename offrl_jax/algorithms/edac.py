"""EDAC: SAC-N whose critics are told to disagree about where Q rises at the data's actions, so that
their minimum penalises the unseen with fewer of them.

Citation: An et al. 2021, arXiv:2110.01548.
Update order: `soft_actor_critic.update`.
Checked against: the authors' code (snu-mllab/EDAC at 198d570). Departures: parameters start as
everywhere here, not from biases of 0.1 and small last layers; a max backup asks the target critics,
where theirs asks the online ones.
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax import soft_actor_critic
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.candidates import state_q_values
from offrl_jax.config import config, setting
from offrl_jax.distributions import TanhGaussian
from offrl_jax.soft_actor_critic import SoftActorCriticConfig, SoftActorCriticState, q_values
from offrl_jax.types import Array, Float, Key, Metrics, Transition

SQUARED_NORM_FLOOR = 1e-12  # where every unit is dead the gradient has no direction


@config
class EDACConfig(SoftActorCriticConfig):
    diversity_weight: float = setting(
        1.0, "η of the critics' pairwise similarity; 0 is SAC-N", low=0
    )
    num_critics: int = setting(10, "E, critics whose minimum is used", low=2)
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256, 256), "critics' hidden layers", low=1)


def action_gradients(
    config: EDACConfig, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B A"]
) -> Float[Array, "E B A"]:
    """∇_a Q_k(s, a) of every critic."""

    def total(member: Any, action: Array) -> Array:
        alone = jax.tree.map(lambda x: x[None], member)
        return jnp.sum(q_values(config, alone, observation, action))

    return jax.vmap(jax.grad(total, argnums=1), in_axes=(0, None))(critic, action)


def diversity_loss(gradient: Float[Array, "E B A"]) -> Float[Array, ""]:
    """mean_b 1/(E − 1) Σ_{i≠j} ⟨g_i, g_j⟩,  g_i the gradients scaled to length 1.

    E for identical critics, 0 for orthogonal ones. The sum over pairs is |Σ_i g_i|² − Σ_i |g_i|².

    Source: An et al. 2021, arXiv:2110.01548, eq. 5.
    """
    squared_norm = jnp.sum(jnp.square(gradient), axis=-1, keepdims=True)
    unit = gradient * jax.lax.rsqrt(squared_norm + SQUARED_NORM_FLOOR)
    of_sum = jnp.sum(jnp.square(jnp.sum(unit, axis=0)), axis=-1)
    of_each = jnp.sum(jnp.square(unit), axis=(0, 2))
    return jnp.mean(of_sum - of_each) / (gradient.shape[0] - 1)


def critic_loss(
    critic: Any,
    state: SoftActorCriticState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: EDACConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b (Q_k(s, a) − y)² + η `diversity_loss`, at the data's actions.

    Source: An et al. 2021, arXiv:2110.01548, algorithm 1.
    """
    del state, policy, next_policy, key
    td_loss, metrics = soft_actor_critic.td_loss(critic, batch, target, config)
    diversity = diversity_loss(action_gradients(config, critic, batch.observation, batch.action))
    loss = td_loss + config.diversity_weight * diversity
    return loss, metrics | {"critic/loss": loss, "critic/similarity": diversity}


def update(
    config: EDACConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    return soft_actor_critic.update(config, state, batch, key, critic_loss)


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
