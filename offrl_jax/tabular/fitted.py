"""Learning Q tables from transitions alone, without a model of the MDP.

Pairs (s, a) without data keep what `start` says of them, and a maximum over all actions may take
them for it; `allowed` keeps it among some actions, such as those of the data.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offrl_jax.tabular.control import among_allowed
from offrl_jax.tabular.evaluation import policy_mean
from offrl_jax.tabular.transitions import Transitions, count_pairs
from offrl_jax.types import Array, Bool, Float, Int, Scalar


def _fit(
    transitions: Transitions,
    start: Array,
    discount: Scalar,
    num_iterations: int | Int[Array, ""],
    next_value: Callable[[Array], Array],
) -> Array:
    """Q ← the mean of r + γ (1 − d) V_Q(s') over the rows of each (s, a)."""
    at = transitions.state, transitions.action
    count = count_pairs(transitions, *start.shape)

    def update(_, q):
        onwards = jnp.where(transitions.terminal, 0.0, next_value(q)[transitions.next_state])
        total = jnp.zeros_like(q).at[at].add(transitions.reward + discount * onwards)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), q)

    return jax.lax.fori_loop(0, num_iterations, update, start)


@jax.jit
def fitted_q_evaluation(
    transitions: Transitions,
    policy: Float[Array, "S A"],
    start: Float[Array, "S A"],
    *,
    discount: Scalar,
    num_iterations: int | Int[Array, ""],
) -> Float[Array, "S A"]:
    """Q ← argmin_Q Σ_rows ( Q(s, a) − [ r + γ (1 − d) E_π Q(s', ·) ] )², over and over.

    Tends to Q^π of the empirical MDP at rate γ, if `unseen_value` there is `start` here.

    Source: Le et al. 2019, arXiv:1903.08738, algorithm 3.
    """
    return _fit(transitions, start, discount, num_iterations, lambda q: policy_mean(policy, q))


@jax.jit
def fitted_q_iteration(
    transitions: Transitions,
    start: Float[Array, "S A"],
    *,
    discount: Scalar,
    num_iterations: int | Int[Array, ""],
    allowed: Bool[Array, "S A"] | None = None,
) -> Float[Array, "S A"]:
    """Q ← argmin_Q Σ_rows ( Q(s, a) − [ r + γ (1 − d) max_{a' allowed} Q(s', a') ] )².

    Source: Ernst, Geurts and Wehenkel 2005, JMLR 6, figure 1.
    """
    return _fit(
        transitions,
        start,
        discount,
        num_iterations,
        lambda q: jnp.max(among_allowed(q, allowed), axis=-1),
    )


@jax.jit
def q_learning(
    transitions: Transitions,
    start: Float[Array, "S A"],
    *,
    discount: Scalar,
    learning_rate: Scalar,
    allowed: Bool[Array, "S A"] | None = None,
) -> Float[Array, "S A"]:
    """Q(s, a) ← Q(s, a) + η ( r + γ (1 − d) max_{a' allowed} Q(s', a') − Q(s, a) ), row by row.

    Source: Watkins and Dayan 1992, Machine Learning 8, equation 1.
    """

    def update(q, row):
        at = row.state, row.action
        best = jnp.max(among_allowed(q, allowed)[row.next_state])
        target = row.reward + discount * jnp.where(row.terminal, 0.0, best)
        return q.at[at].add(learning_rate * (target - q[at])), None

    return jax.lax.scan(update, start, transitions)[0]
