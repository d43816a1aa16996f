"""Conservative Q-learning: soft actor-critic whose critics are pushed down on the actions they like
and, but for Eq. 1, up on the data's. Cal-QL pushes no further than the data's own returns.

Citation: Kumar et al. 2020, arXiv:2006.04779; Cal-QL: Nakamoto et al. 2023, arXiv:2303.05479.
Update order: actor, temperature, critics and multiplier, all from the same old parameters; then the
target critics.
Checked against: the authors' code (aviralkumar2907/CQL at d67dbe9: `h` is its `min_q_version` 3,
`author_v2` its 2), JaxCQL (bac4299) and Cal-QL (ac6eafe). Departures: in the authors' code the
temperature steps before the other losses are taken; parameters start as everywhere here, where
JaxCQL's may and Cal-QL's do start orthogonally, with log deviations lower by 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax import devices
from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import cql_variants, soft_actor_critic
from offrl_jax.algorithms.common.agents import of_agent
from offrl_jax.algorithms.common.critics import q_values, state_q_values
from offrl_jax.algorithms.common.soft_actor_critic import (
    BACKUP_HELP,
    BACKUPS,
    Context,
    SoftActorCriticConfig,
    SoftActorCriticState,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.conservative import importance_weighted_logsumexp, uniform_log_density
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

NO_CLIP = 1e30


@config
class CQLConfig(SoftActorCriticConfig):
    variant: str = setting(
        "h",
        "what is pushed down: h: log ∫ exp Q, CQL(H); rho: log E_ρ exp Q, CQL(ρ); author_v2: what "
        "the authors' code calls CQL(ρ); v2: E_μ Q, Eq. 2; v1: E_μ Q without pushing up, Eq. 1",
        choices=("h", "rho", "author_v2", "v2", "v1"),
    )
    conservative_weight: float = setting(
        5.0, "w of the penalty beside an unhalved squared error, so w = 2α of the paper", low=0
    )
    num_sampled_actions: int = setting(
        10,
        "N actions of each source of the penalty: uniform, π(s), π(s′); v1, v2, rho: only one",
        low=1,
    )
    penalty_actions: str = setting(
        "policy",
        "where μ of v1 and v2 and ρ of rho come from: the policy before its step, or uniform",
        choices=("policy", "uniform"),
    )
    penalty_temperature: float = setting(1.0, "T of T log Σ exp(Q / T)", low=1e-6)
    subtract_log_samples: bool = setting(
        False, "whether h estimates log ∫ exp Q itself: T log M less, M = 3N, as acme"
    )
    min_difference: float = setting(
        -NO_CLIP, "lowest penalty of a sample; AntMaze settings use −200, −1e30 is no clip"
    )
    max_difference: float = setting(NO_CLIP, "highest penalty of a sample; 1e30 is no clip")
    lagrange: str = setting(
        "off",
        "a multiplier α′ that holds the penalty at a threshold τ, authors: α′ (w penalty − τ); "
        "jaxcql: α′ w (penalty − τ)",
        choices=("off", "authors", "jaxcql"),
    )
    lagrange_threshold: float = setting(5.0, "τ")
    multiplier_learning_rate: float = setting(3e-4, "Adam's step size for log α′", low=0)
    initial_log_multiplier: float = setting(
        0.0, "log α′ at the start; JaxCQL and CORL use 1", high=13
    )
    calibrated: bool = setting(
        False, "Cal-QL: the penalty takes the data's return where Q of a policy's action is below"
    )
    cut_return: str = setting(
        "zero",
        "what Cal-QL's returns count after a cut, zero: nothing; last_reward: the last reward for "
        "ever, as the authors for sparse rewards",
        choices=("zero", "last_reward"),
    )
    num_warmup_steps: int = setting(
        0, "first steps of the actor in which it clones the data", low=0
    )
    actor_learning_rate: float = setting(1e-4, "Adam's step size for the actor", low=0)
    backup: str = setting("deterministic", BACKUP_HELP, choices=BACKUPS)


class CQLState(NamedTuple):
    agent: SoftActorCriticState
    multiplier: Trainable | None  # log α′; None where `lagrange` is off

    @property
    def step(self) -> Array:
        return self.agent.step


class Candidates(NamedTuple):
    """Actions at which the penalty looks, M a state."""

    action: Float[Array, "B M A"]
    log_density: Float[Array, "B M"]  # log μ_j(a_j), each of the action's own source


class CQLContext(NamedTuple):
    """Inputs of the critics' loss, all from before the step."""

    batch: Transition
    target: Float[Array, "B"]  # y
    candidates: Candidates
    log_multiplier: Float[Array, ""] | None  # log α′


def init(config: CQLConfig, spec: Spec, key: Key) -> CQLState:
    agent = soft_actor_critic.init(config, spec, key)
    return CQLState(agent, cql_variants.init_multiplier(config))


def candidate_actions(config: CQLConfig, context: Context) -> Candidates:
    """N actions each from the uniform distribution, π(·|s) and π(·|s′), all evaluated at s. No
    gradient flows to the policies."""
    uniform_key, own_key, next_key = jax.random.split(context.key, 3)
    num_states, action_size = context.policy.mean.shape
    shape = (num_states, config.num_sampled_actions, action_size)
    uniform = jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0)
    log_density = jnp.broadcast_to(uniform_log_density(action_size), shape[:2])
    sources = cql_variants.sources_used(
        config,
        uniform=(uniform, log_density),
        policy=context.policy.sample_and_log_prob(own_key, config.num_sampled_actions),
        next_policy=context.next_policy.sample_and_log_prob(next_key, config.num_sampled_actions),
    )
    candidates = (jnp.concatenate(x, axis=1) for x in zip(*sources, strict=True))
    return jax.lax.stop_gradient(Candidates(*candidates))


def penalty(
    config: CQLConfig, q: Float[Array, "E B M"], q_data: Float[Array, "E B"], context: CQLContext
) -> Float[Array, "E"]:
    """mean_b clip( T log Σ_j exp( [Q_k(s, a_j) − log μ_j(a_j)] / T ) − Q_k(s, a) ).

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4 with appendix F. The other variants are in
    `cql_variants`.
    """
    if config.calibrated:
        q = cql_variants.at_least_returns(config, q, context.batch.return_to_go)
    if config.variant == "h":
        temperature = config.penalty_temperature
        total = importance_weighted_logsumexp(q, context.candidates.log_density, temperature)
        offset = temperature * jnp.log(q.shape[-1]) if config.subtract_log_samples else 0.0
        difference = total - offset - q_data
    else:
        difference = cql_variants.difference(config, q, q_data)
    return jnp.mean(jnp.clip(difference, config.min_difference, config.max_difference), axis=1)


def critic_loss(
    config: CQLConfig, critic: Any, context: CQLContext, penalty: Callable = penalty
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k { mean_b (Q_k(s, a) − y)² + w `penalty`_k }; with `lagrange` on, a multiplier α′ weighs
    the penalty.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 1 to 4.
    Departs from the paper: the squared error is not halved, as in the authors' code.
    """
    batch, candidates = context.batch, context.candidates
    actions = jnp.concatenate([batch.action[:, None], candidates.action], axis=1)
    q = q_values(config, critic, batch.observation, actions)  # (E, B, 1 + M) in one pass
    q_data = q[..., 0]
    td_loss = jnp.mean(jnp.square(q_data - context.target[None]), axis=1)
    penalties = penalty(config, q[..., 1:], q_data, context)
    weighted = cql_variants.weighted(config, penalties, context.log_multiplier)
    loss = jnp.sum(td_loss + weighted)
    return loss, {
        "critic/loss": loss,
        "critic/td_loss": jnp.sum(td_loss),
        "critic/penalty": jnp.mean(penalties),
        "critic/q": jnp.mean(q_data),
    }


def update(
    config: CQLConfig, state: CQLState, batch: Transition, key: Key, penalty: Callable = penalty
) -> tuple[CQLState, Metrics]:
    """One update. Another function in place of `penalty` makes another algorithm; it must be a mean
    over states, since on CPUs it sees the batch in blocks."""
    critic, multiplier = state.agent.critic.params, state.multiplier
    agent, context, metrics = soft_actor_critic.policy_step(
        config, state.agent, batch, key, cql_variants.actor_loss
    )
    candidates = candidate_actions(config, context)
    log_multiplier = None if multiplier is None else multiplier.params
    gradient, critic_metrics = devices.mean_over_blocks(
        lambda context: jax.grad(critic_loss, argnums=1, has_aux=True)(
            config, critic, context, penalty
        ),
        CQLContext(batch, context.target, candidates, log_multiplier),
        width=1 + candidates.action.shape[1],
    )
    agent = soft_actor_critic.critic_step(config, agent, gradient)
    if multiplier is not None:
        critic_metrics |= {"critic/multiplier": jnp.exp(log_multiplier)}
        multiplier = cql_variants.multiplier_step(
            config, multiplier, critic_metrics["critic/penalty"]
        )
    return CQLState(agent, multiplier), metrics | critic_metrics


def phases(config: CQLConfig, update: Callable) -> tuple[Phase, ...]:
    relabel = cql_variants.with_reference_returns if config.calibrated else None
    return (Phase((update,), relabel=relabel),)


cql = Algorithm(
    name="cql",
    Config=CQLConfig,
    init=init,
    update=update,
    act=of_agent(soft_actor_critic.act),
    value=of_agent(soft_actor_critic.value),
    citation="Kumar et al. 2020, arXiv:2006.04779",
    phases=phases,
    q_values=of_agent(state_q_values),
)
