"""The best that can be done, in an MDP or within the support of data.

`allowed` marks the actions that a maximum is taken over, say those of the data; in states that have
none, all are.

Source: Puterman 1994, Markov Decision Processes, section 6.3; over the data's actions only, as in
Kumar et al. 2019, arXiv:1906.00949, definition 4.1, with each policy's support a set of actions.
"""

import jax
import jax.numpy as jnp

from offrl_jax.tabular.fixed_point import fixed_point
from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Bool, Float


def among_allowed(
    q: Float[Array, "S A"], allowed: Bool[Array, "S A"] | None = None
) -> Float[Array, "S A"]:
    """Q, and −∞ at the actions that are not allowed."""
    if allowed is None:
        return q
    return jnp.where(allowed | ~jnp.any(allowed, axis=-1, keepdims=True), q, -jnp.inf)


def optimal_backup(
    mdp: MDP, q: Float[Array, "S A"], allowed: Bool[Array, "S A"] | None = None
) -> Float[Array, "S A"]:
    """B* Q = r + γ P max_{a allowed} Q."""
    best = jnp.max(among_allowed(q, allowed), axis=-1)
    return mdp.reward + mdp.discount * mdp.successors() @ best


@jax.jit
def q_iteration(mdp: MDP, allowed: Bool[Array, "S A"] | None = None) -> Float[Array, "S A"]:
    """Q* = B* Q*, by iteration from 0; also of actions that are not allowed, as first ones."""
    return fixed_point(
        lambda q: optimal_backup(mdp, q, allowed), jnp.zeros_like(mdp.reward), mdp.discount
    )


@jax.jit
def value_iteration(mdp: MDP) -> Float[Array, "S"]:
    """V* = max_a [ r + γ P V* ], by iteration from 0."""
    return fixed_point(
        lambda v: jnp.max(mdp.reward + mdp.discount * mdp.successors() @ v, axis=-1),
        jnp.zeros_like(mdp.initial),
        mdp.discount,
    )


def greedy_policy(
    q: Float[Array, "S A"], allowed: Bool[Array, "S A"] | None = None
) -> Float[Array, "S A"]:
    """π(a|s) = 1 at argmax_{a allowed} Q(s, a), the first of several."""
    best = jnp.argmax(among_allowed(q, allowed), axis=-1)
    return jax.nn.one_hot(best, q.shape[-1], dtype=q.dtype)
