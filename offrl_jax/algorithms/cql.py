"""Conservative Q-learning, CQL(H): soft actor-critic whose critics are pushed down on the actions
they like and up on the data's.

Citation: Kumar et al. 2020, arXiv:2006.04779.
Update order: `soft_actor_critic.update`.
Checked against: the authors' code, `min_q_version` 3, without the Lagrange multiplier.
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax import soft_actor_critic
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.distributions import TanhGaussian
from offrl_jax.losses.conservative import importance_weighted_logsumexp, uniform_log_density
from offrl_jax.soft_actor_critic import SoftActorCriticConfig, SoftActorCriticState, q_values
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class CQLConfig(SoftActorCriticConfig):
    conservative_weight: float = setting(
        5.0, "w of the penalty beside an unhalved squared error, so w = 2α of the paper", low=0
    )
    num_sampled_actions: int = setting(
        10, "actions drawn from each of uniform, π(s) and π(s′) for the penalty", low=1
    )
    actor_learning_rate: float = setting(1e-4, "Adam's step size for the actor", low=0)
    backup_entropy: bool = setting(False, "whether the TD target includes −α log π")


def candidate_actions(
    policy: TanhGaussian, next_policy: TanhGaussian, num_samples: int, key: Key
) -> tuple[Float[Array, "B M A"], Float[Array, "B M"]]:
    """M = 3N actions at s: N uniform, N from π(s), N from π(s′), with their log-densities.

    Those from π(s′) are still evaluated at s; each density is that of the action's own source.
    No gradient flows to the policies.
    """
    uniform_key, key, next_key = jax.random.split(key, 3)
    batch_size, action_size = policy.mean.shape
    uniform = jax.random.uniform(
        uniform_key, (batch_size, num_samples, action_size), minval=-1.0, maxval=1.0
    )
    own, own_log_prob = policy.sample_and_log_prob(key, num_samples)
    following, following_log_prob = next_policy.sample_and_log_prob(next_key, num_samples)
    uniform_log_prob = jnp.broadcast_to(uniform_log_density(action_size), own_log_prob.shape)
    return jax.lax.stop_gradient(
        (
            jnp.concatenate([uniform, own, following], axis=1),
            jnp.concatenate([uniform_log_prob, own_log_prob, following_log_prob], axis=1),
        )
    )


def critic_loss(
    critic: Any,
    batch: Transition,
    target: Float[Array, "B"],
    candidates: Float[Array, "B M A"],
    log_density: Float[Array, "B M"],
    config: CQLConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b { (Q_k(s, a) − y)² + w [ log Σ_j exp(Q_k(s, a_j) − log μ_j) − Q_k(s, a) ] }.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4 (CQL(H)) with appendix F's estimate.
    Departs from the paper: the squared error is not halved, as in the authors' code.
    """
    actions = jnp.concatenate([batch.action[:, None], candidates], axis=1)
    q = q_values(config, critic, batch.observation, actions)  # (E, B, 1 + M) in one pass
    q_data, q_candidates = q[..., 0], q[..., 1:]
    td_loss = jnp.mean(jnp.square(q_data - target[None]), axis=1)
    logsumexp = importance_weighted_logsumexp(q_candidates, log_density)
    gap = jnp.mean(logsumexp - q_data, axis=1)
    loss = jnp.sum(td_loss + config.conservative_weight * gap)
    metrics = {
        "critic/loss": loss,
        "critic/td_loss": jnp.sum(td_loss),
        "critic/gap": jnp.mean(gap),
        "critic/q": jnp.mean(q_data),
    }
    return loss, metrics


def sampled_critic_loss(
    critic: Any,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: CQLConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """`critic_loss` on freshly drawn candidates."""
    drawn = candidate_actions(policy, next_policy, config.num_sampled_actions, key)
    return critic_loss(critic, batch, target, *drawn, config)


def update(
    config: CQLConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    return soft_actor_critic.update(config, state, batch, key, sampled_critic_loss)


cql = Algorithm(
    name="cql",
    Config=CQLConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="Kumar et al. 2020, arXiv:2006.04779",
)
