"""Conservative Q-learning: soft actor-critic whose critics are pushed down on the actions they like
and, but for Eq. 1, up on the data's. Cal-QL pushes no further than the data's own returns.

Citation: Kumar et al. 2020, arXiv:2006.04779; Cal-QL: Nakamoto et al. 2023, arXiv:2303.05479.
Update order: `soft_actor_critic.update`, then the multiplier, from the same old parameters.
Checked against: the authors' code (aviralkumar2907/CQL at d67dbe9: `h` is its `min_q_version` 3,
`author_v2` its 2), JaxCQL (bac4299) and Cal-QL (ac6eafe). Departures: in the authors' code the
temperature steps before the other losses are taken; parameters start as everywhere here, where
JaxCQL's may and Cal-QL's do start orthogonally, with log deviations lower by 1.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import soft_actor_critic
from offrl_jax.algorithms.common.critics import q_values, state_q_values
from offrl_jax.algorithms.common.relabel import with_lambda_returns
from offrl_jax.algorithms.common.soft_actor_critic import (
    BACKUP_HELP,
    BACKUPS,
    SoftActorCriticConfig,
)
from offrl_jax.config import config, setting
from offrl_jax.data.dataset import Dataset
from offrl_jax.devices import rows_at_once
from offrl_jax.losses.conservative import (
    importance_weighted_logsumexp,
    logmeanexp,
    logsumexp,
    uniform_log_density,
)
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Bool, Float, Int, Key, Metrics, Spec, Transition

NO_CLIP = 1e30
MAX_LOG_MULTIPLIER = math.log(1e6)
LONGEST_TAIL = 1e4  # steps for which a cut episode may go on, where γ is 1


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
    step: Int[Array, ""]
    actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    log_temperature: Float[Array, ""]
    actor_optimizer: Any
    critic_optimizer: Any
    temperature_optimizer: Any
    log_multiplier: Any  # None where `lagrange` is off
    multiplier_optimizer: Any


def init(config: CQLConfig, spec: Spec, key: Key) -> CQLState:
    agent = soft_actor_critic.init(config, spec, key)
    if config.lagrange == "off":
        return CQLState(*agent, None, None)
    log_multiplier = jnp.float32(config.initial_log_multiplier)
    optimizer = optax.adam(config.multiplier_learning_rate).init(log_multiplier)
    return CQLState(*agent, log_multiplier, optimizer)


class Candidates(NamedTuple):
    """Actions at which the penalty looks, M a state."""

    action: Float[Array, "B M A"]
    log_density: Float[Array, "B M"]  # each of the action's own source
    of_policy: Bool[Array, "M"]  # rather than uniform


def candidate_actions(
    config: CQLConfig, policy: TanhGaussian, next_policy: TanhGaussian, key: Key
) -> Candidates:
    """N uniform actions, N of π(s) and N of π(s′), all to be evaluated at s, for `h` and
    `author_v2`; for the others N of `config.penalty_actions`. No gradient flows to the policies.
    """
    uniform_key, own_key, next_key = jax.random.split(key, 3)
    num = config.num_sampled_actions
    batch_size, action_size = policy.mean.shape
    shape = (batch_size, num, action_size)
    uniform = (
        jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0),
        jnp.broadcast_to(uniform_log_density(action_size), shape[:2]),
        jnp.zeros(num, bool),
    )
    own = *policy.sample_and_log_prob(own_key, num), jnp.ones(num, bool)
    if config.variant in ("h", "author_v2"):
        following = *next_policy.sample_and_log_prob(next_key, num), jnp.ones(num, bool)
        action, log_density, of_policy = zip(uniform, own, following, strict=True)
        drawn = (
            jnp.concatenate(action, axis=1),
            jnp.concatenate(log_density, axis=1),
            jnp.concatenate(of_policy),
        )
    else:
        drawn = own if config.penalty_actions == "policy" else uniform
    return Candidates(*jax.lax.stop_gradient(drawn))


def pushed_down(
    config: CQLConfig,
    q: Float[Array, "E B M"],
    q_data: Float[Array, "E B"],
    log_density: Float[Array, "B M"],
) -> Float[Array, "E B"]:
    """What the penalty lowers at each state, by `config.variant`:

    h          T log Σ_j exp( [Q(s, a_j) − log μ_j(a_j)] / T ), less T log M if so configured
    rho        T log mean_j exp( Q(s, a_j) / T ),  a_j ~ ρ
    author_v2  T log Σ_j exp( Q(s, a_j) / T ), the data's action among the a_j
    v2, v1     mean_j Q(s, a_j),  a_j ~ μ

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4 with appendix F (h), eq. 3 with
    R = −KL(μ‖ρ) (rho), eq. 2 and 1; the authors' code (author_v2).
    """
    temperature = config.penalty_temperature
    if config.variant == "h":
        total = importance_weighted_logsumexp(q, log_density, temperature)
        offset = temperature * jnp.log(q.shape[-1]) if config.subtract_log_samples else 0.0
        return total - offset
    if config.variant == "rho":
        return logmeanexp(q, temperature)
    if config.variant == "author_v2":
        return logsumexp(jnp.concatenate([q, q_data[..., None]], axis=-1), temperature)
    return jnp.mean(q, axis=-1)


def penalty(
    config: CQLConfig,
    q: Float[Array, "E B M"],
    q_data: Float[Array, "E B"],
    candidates: Candidates,
    return_to_go: Float[Array, "B"],
) -> Float[Array, "E"]:
    """mean_b clip( `pushed_down` − Q_k(s, a) ), without the second term in `v1`.

    Cal-QL puts max(Q, return) in the place of Q at actions of a policy; where the return is higher,
    nothing is pushed.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 1 to 4; Nakamoto et al. 2023,
    arXiv:2303.05479, eq. 5.1.
    """
    if config.calibrated:
        floor = jnp.where(candidates.of_policy[None], return_to_go[:, None], -jnp.inf)
        q = jnp.maximum(q, floor[None])
    difference = pushed_down(config, q, q_data, candidates.log_density)
    if config.variant != "v1":
        difference = difference - q_data
    return jnp.mean(jnp.clip(difference, config.min_difference, config.max_difference), axis=1)


def excess(config: CQLConfig, penalty: Float[Array, "*E"]) -> Float[Array, "*E"]:
    """What the multiplier weighs: w penalty − τ (authors), or w (penalty − τ) (JaxCQL, CORL)."""
    if config.lagrange == "authors":
        return config.conservative_weight * penalty - config.lagrange_threshold
    return config.conservative_weight * (penalty - config.lagrange_threshold)


def multiplier_loss(
    log_multiplier: Float[Array, ""], penalty: Float[Array, "E"], config: CQLConfig
) -> Float[Array, ""]:
    """−α′ sg mean_k `excess`: α′ rises while the penalty is above its threshold."""
    excess_of_all = jnp.mean(excess(config, jax.lax.stop_gradient(penalty)))
    return -jnp.exp(log_multiplier) * excess_of_all


def critic_loss(
    critic: Any,
    state: CQLState,
    batch: Transition,
    target: Float[Array, "B"],
    candidates: Candidates,
    config: CQLConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k { mean_b (Q_k(s, a) − y)² + w `penalty`_k }, or with a multiplier α′ `excess`_k for the
    second term.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 1 to 4; the multiplier: eq. 30.
    Departs from the paper: the squared error is not halved, as in the authors' code.
    """
    actions = jnp.concatenate([batch.action[:, None], candidates.action], axis=1)
    q = q_values(config, critic, batch.observation, actions)  # (E, B, 1 + M) in one pass
    q_data = q[..., 0]
    td_loss = jnp.mean(jnp.square(q_data - target[None]), axis=1)
    penalties = penalty(config, q[..., 1:], q_data, candidates, batch.return_to_go)
    if config.lagrange == "off":
        conservative_loss = config.conservative_weight * penalties
    else:
        conservative_loss = jnp.exp(state.log_multiplier) * excess(config, penalties)
    loss = jnp.sum(td_loss + conservative_loss)
    metrics = {
        "critic/loss": loss,
        "critic/td_loss": jnp.sum(td_loss),
        "critic/penalty": jnp.mean(penalties),
        "critic/q": jnp.mean(q_data),
    }
    return loss, metrics


def critic_gradient(
    critic: Any,
    state: CQLState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: CQLConfig,
) -> tuple[Any, Metrics]:
    """Gradient and metrics of `critic_loss` on freshly drawn candidates, which are means over
    states and so can be taken over blocks of states, as many as the backend likes at once."""
    candidates = candidate_actions(config, policy, next_policy, key)
    by_state = (batch, target, candidates.action, candidates.log_density)
    num_states, num_actions = candidates.action.shape[:2]
    num_blocks = _num_blocks(num_states, num_actions + 1)
    blocks = jax.tree.map(lambda x: x.reshape(num_blocks, -1, *x.shape[1:]), by_state)

    def of_block(block: tuple) -> tuple[Any, Metrics]:
        batch, target, action, log_density = block
        drawn = Candidates(action, log_density, candidates.of_policy)
        return jax.grad(critic_loss, has_aux=True)(critic, state, batch, target, drawn, config)

    def add(total: Any, block: tuple) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_block(block)), None

    total = of_block(jax.tree.map(lambda x: x[0], blocks))
    if num_blocks > 1:
        total, _ = jax.lax.scan(add, total, jax.tree.map(lambda x: x[1:], blocks))
    return jax.tree.map(lambda x: x / num_blocks, total)


def _num_blocks(num_states: int, num_actions: int) -> int:
    """The fewest blocks of equal size whose critics take at most the backend's rows at once; one
    if that makes blocks of less than a quarter of them."""
    limit = rows_at_once()
    if limit is None:
        return 1
    divisors = (n for n in range(1, num_states + 1) if num_states % n == 0)
    rows = {n: num_states // n * num_actions for n in divisors}
    return next((n for n in rows if limit / 4 <= rows[n] <= limit), 1)


def actor_loss(
    actor: Any, state: CQLState, batch: Transition, key: Key, config: CQLConfig
) -> tuple[Float[Array, ""], tuple]:
    """Soft actor-critic's, and in the warm-up mean_b [ α log π(a|s) − log π(a_data|s) ], a ~ π.

    Source: the authors' code (`policy_eval_start`).
    """
    loss, (policy, log_prob) = soft_actor_critic.actor_loss(actor, state, batch, key, config)
    if config.num_warmup_steps:
        entropy_loss = jnp.mean(jnp.exp(state.log_temperature) * log_prob)
        cloning_loss = entropy_loss - jnp.mean(policy.log_prob(batch.action))
        loss = jnp.where(state.step < config.num_warmup_steps, cloning_loss, loss)
    return loss, (policy, log_prob)


def update(
    config: CQLConfig, state: CQLState, batch: Transition, key: Key
) -> tuple[CQLState, Metrics]:
    old = state.log_multiplier
    state, metrics = soft_actor_critic.update(
        config, state, batch, key, critic_gradient, actor_loss
    )
    if config.lagrange == "off":
        return state, metrics
    gradient = jax.grad(multiplier_loss)(old, metrics["critic/penalty"][None], config)
    log_multiplier, optimizer = adam_step(
        config.multiplier_learning_rate, gradient, old, state.multiplier_optimizer
    )
    log_multiplier = jnp.minimum(log_multiplier, MAX_LOG_MULTIPLIER)
    state = state._replace(log_multiplier=log_multiplier, multiplier_optimizer=optimizer)
    return state, metrics | {"critic/multiplier": jnp.exp(old)}


def with_reference_returns(
    config: CQLConfig, state: CQLState, dataset: Dataset
) -> tuple[CQLState, Dataset]:
    """The dataset with the returns that Cal-QL compares with, discounted by `config.discount`."""
    reward = dataset.transitions.reward
    after_cut = jnp.zeros_like(reward)
    if config.cut_return == "last_reward":
        after_cut = reward / jnp.maximum(1.0 - config.discount, 1 / LONGEST_TAIL)
    return state, with_lambda_returns(dataset, after_cut, config.discount, 1.0)


def phases(config: CQLConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((update,), relabel=with_reference_returns if config.calibrated else None),)


cql = Algorithm(
    name="cql",
    Config=CQLConfig,
    init=init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="Kumar et al. 2020, arXiv:2006.04779",
    phases=phases,
    q_values=state_q_values,
)
