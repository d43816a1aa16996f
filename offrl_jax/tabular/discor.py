"""DisCor's accumulated errors on tables.

Source: Kumar, Gupta and Levine 2020, arXiv:2003.07305.
"""

import jax
import jax.numpy as jnp

from offrl_jax.tabular.evaluation import (
    discounted_sum,
    policy_backup,
    policy_mean,
)
from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Float, Scalar


def accumulated_error(
    mdp: MDP, policy: Float[Array, "S A"], q: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """Δ = (I − γ P^π)⁻¹ |Q − B^π Q|, the fixed point of Δ = |Q − B^π Q| + γ P^π Δ.

    |Q − Q^π| ≤ Δ at every state and action, and so |Q − Q*| ≤ Δ if π is an optimal policy.

    DisCor's Δ_k for one critic whose target is itself.
    """
    return discounted_sum(mdp, policy, jnp.abs(q - policy_backup(mdp, policy, q)))


def discor_weight(
    mdp: MDP, policy: Float[Array, "S A"], delta: Float[Array, "S A"], temperature: Scalar
) -> Float[Array, "S A"]:
    """w ∝ exp( −γ [P^π Δ](s, a) / T ), which sums to 1 over all pairs; T > 0.

    Pairs whose targets are wrong count less. The data's own frequencies multiply it.
    """
    wrong = mdp.discount * mdp.successors() @ policy_mean(policy, delta)
    return jax.nn.softmax(-wrong / temperature, axis=(-2, -1))
