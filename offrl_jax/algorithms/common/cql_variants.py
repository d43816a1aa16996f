"""Variants of CQL(H): other penalties, Cal-QL, the multiplier that keeps the penalty at a
threshold, and the actor's warm-up by cloning.

Source: Kumar et al. 2020, arXiv:2006.04779, and the authors' code; Cal-QL: Nakamoto et al. 2023,
arXiv:2303.05479.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common import soft_actor_critic
from offrl_jax.algorithms.common.relabel import with_lambda_returns
from offrl_jax.algorithms.common.soft_actor_critic import SoftActorCriticState
from offrl_jax.data.dataset import Dataset
from offrl_jax.losses.conservative import logmeanexp, logsumexp
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.types import Array, Float, Key, Metrics, Transition

MAX_LOG_MULTIPLIER = math.log(1e6)
LONGEST_TAIL = 1e4  # steps that a truncated episode is assumed to continue if γ is 1


# Penalties


def sources_used(config: Any, *, uniform: tuple, policy: tuple, next_policy: tuple) -> list[tuple]:
    """The candidates (actions, log-densities) that the variant uses: all three sources (h,
    author_v2), or the one that `config.penalty_actions` names."""
    if config.variant in ("h", "author_v2"):
        return [uniform, policy, next_policy]
    return [policy if config.penalty_actions == "policy" else uniform]


def difference(
    config: Any, q: Float[Array, "E B M"], q_data: Float[Array, "E B"]
) -> Float[Array, "E B"]:
    """The penalty at each state, by `config.variant`:

    rho        T log mean_j exp( Q(s, a_j) / T ) − Q(s, a),  a_j ~ ρ
    author_v2  T log Σ_j exp( Q(s, a_j) / T ) − Q(s, a), the data's action among the a_j
    v2         mean_j Q(s, a_j) − Q(s, a),  a_j ~ μ
    v1         mean_j Q(s, a_j)

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 3 with R = −KL(μ‖ρ) (rho), eq. 2 and 1; the
    authors' code (author_v2).
    """
    temperature = config.penalty_temperature
    if config.variant == "rho":
        return logmeanexp(q, temperature) - q_data
    if config.variant == "author_v2":
        return logsumexp(jnp.concatenate([q, q_data[..., None]], axis=-1), temperature) - q_data
    mean = jnp.mean(q, axis=-1)
    return mean - q_data if config.variant == "v2" else mean


# Cal-QL


def at_least_returns(
    config: Any, q: Float[Array, "E B M"], return_to_go: Float[Array, "B"]
) -> Float[Array, "E B M"]:
    """max(Q, return-to-go) at actions of a policy: no penalty gradient where Q is below the return.

    Source: Nakamoto et al. 2023, arXiv:2303.05479, eq. 5.1.
    """
    num_actions = q.shape[-1]
    is_of_policy = jnp.full(num_actions, config.penalty_actions == "policy")
    if config.variant in ("h", "author_v2"):
        is_of_policy = jnp.arange(num_actions) >= config.num_sampled_actions
    floor = jnp.where(is_of_policy[None], return_to_go[:, None], -jnp.inf)
    return jnp.maximum(q, floor[None])


def with_reference_returns(config: Any, state: Any, dataset: Dataset) -> tuple[Any, Dataset]:
    """The dataset with Cal-QL's reference returns-to-go, discounted by `config.discount`."""
    reward = dataset.transitions.reward
    after_cut = jnp.zeros_like(reward)
    if config.cut_return == "last_reward":
        after_cut = reward / jnp.maximum(1.0 - config.discount, 1 / LONGEST_TAIL)
    return state, with_lambda_returns(dataset, after_cut, config.discount, 1.0)


# The multiplier


def init_multiplier(config: Any) -> Trainable | None:
    """log α′, or None where `lagrange` is off."""
    if config.lagrange == "off":
        return None
    return Trainable.create(jnp.float32(config.initial_log_multiplier))


def weighted(
    config: Any, penalty: Float[Array, "E"], log_multiplier: Float[Array, ""] | None
) -> Float[Array, "E"]:
    """w · penalty, or α′ · `excess` if there is a multiplier.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 30.
    """
    if log_multiplier is None:
        return config.conservative_weight * penalty
    return jnp.exp(log_multiplier) * excess(config, penalty)


def excess(config: Any, penalty: Float[Array, "*E"]) -> Float[Array, "*E"]:
    """The factor of the multiplier: w penalty − τ (authors), or w (penalty − τ) (JaxCQL, CORL)."""
    if config.lagrange == "authors":
        return config.conservative_weight * penalty - config.lagrange_threshold
    return config.conservative_weight * (penalty - config.lagrange_threshold)


def multiplier_loss(
    config: Any, log_multiplier: Float[Array, ""], penalty: Float[Array, "*E"]
) -> Float[Array, ""]:
    """−α′ sg mean_k `excess`: α′ rises while the penalty is above its threshold."""
    excess_of_all = jnp.mean(excess(config, jax.lax.stop_gradient(penalty)))
    return -jnp.exp(log_multiplier) * excess_of_all


def multiplier_step(config: Any, multiplier: Trainable, penalty: Float[Array, "*E"]) -> Trainable:
    """One step on `multiplier_loss`, then log α′ is clipped as in the authors' code."""
    gradient = jax.grad(multiplier_loss, argnums=1)(config, multiplier.params, penalty)
    multiplier = multiplier.step(gradient, config.multiplier_learning_rate)
    return multiplier._replace(params=jnp.minimum(multiplier.params, MAX_LOG_MULTIPLIER))


# The actor's warm-up


def actor_loss(
    config: Any, actor: Any, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[Float[Array, ""], tuple[Metrics, TanhGaussian, Float[Array, "B"]]]:
    """Soft actor-critic's loss; in the warm-up mean_b [ α log π(a|s) − log π(a_data|s) ], a ~ π.

    Source: the authors' code (`policy_eval_start`).
    """
    loss, shared = soft_actor_critic.actor_loss(config, actor, state, batch, key)
    if not config.num_warmup_steps:
        return loss, shared
    metrics, policy, log_prob = shared
    entropy_loss = jnp.mean(jnp.exp(state.temperature.params) * log_prob)
    cloning_loss = entropy_loss - jnp.mean(policy.log_prob(batch.action))
    loss = jnp.where(state.step < config.num_warmup_steps, cloning_loss, loss)
    return loss, (metrics | {"actor/loss": loss}, policy, log_prob)
