"""What a policy is worth, exactly: linear systems instead of iterations.

Every table of state-action values here is (I − γ P^π)⁻¹ of some other table, where P^π leads from
(s, a) to (s', a'), a' ~ π. It is computed by a system of the S states alone:

  (I − γ P^π)⁻¹ x = x + γ P (I − γ P_π)⁻¹ E_π x,   P_π(s, s') = Σ_a π(a|s) P(s'|s, a)

with P the probability of going on to s' (`MDP.successors`). Single precision has relative errors up
to about 10⁻⁷ / (1 − γ).

Source: Puterman 1994, Markov Decision Processes, section 6.1.
"""

import jax.numpy as jnp

from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Float


def policy_mean(policy: Float[Array, "S A"], table: Float[Array, "S A"]) -> Float[Array, "S"]:
    """E_{a~π} x(s, a) = Σ_a π(a|s) x(s, a)."""
    return jnp.sum(policy * table, axis=-1)


def state_transition(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S S"]:
    """P_π(s, s') = Σ_a π(a|s) P(s'|s, a); what rows lack of 1 ends the episode."""
    return jnp.einsum("sa,saz->sz", policy, mdp.successors())


def pair_transition(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "SA SA"]:
    """P^π((s, a), (s', a')) = P(s'|s, a) π(a'|s'), with pair (s, a) at row A s + a."""
    size = mdp.num_states * mdp.num_actions
    return jnp.einsum("saz,zb->sazb", mdp.successors(), policy).reshape(size, size)


def discounted_state_sum(
    mdp: MDP, policy: Float[Array, "S A"], x: Float[Array, "S"]
) -> Float[Array, "S"]:
    """(I − γ P_π)⁻¹ x = E Σ_t γ^t x(s_t), by first state."""
    identity = jnp.eye(mdp.num_states)
    return jnp.linalg.solve(identity - mdp.discount * state_transition(mdp, policy), x)


def discounted_sum(
    mdp: MDP, policy: Float[Array, "S A"], x: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """(I − γ P^π)⁻¹ x = E Σ_t γ^t x(s_t, a_t), by first state and action."""
    onwards = discounted_state_sum(mdp, policy, policy_mean(policy, x))
    return x + mdp.discount * mdp.successors() @ onwards


def q_value(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """Q^π = (I − γ P^π)⁻¹ r."""
    return discounted_sum(mdp, policy, mdp.reward)


def state_value(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S"]:
    """V^π = (I − γ P_π)⁻¹ E_π r."""
    return discounted_state_sum(mdp, policy, policy_mean(policy, mdp.reward))


def expected_return(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, ""]:
    """J = Σ_s ρ₀(s) V^π(s), discounted."""
    return jnp.sum(mdp.initial * state_value(mdp, policy))


def policy_backup(
    mdp: MDP, policy: Float[Array, "S A"], q: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """B^π Q = r + γ P E_π Q."""
    return mdp.reward + mdp.discount * mdp.successors() @ policy_mean(policy, q)


def visitation(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S"]:
    """d^π(s) = (1 − γ) Σ_t γ^t P(s_t = s), so that J = Σ_{s,a} d^π(s) π(a|s) r(s, a) / (1 − γ).

    A distribution where episodes do not end; else its sum is 1 − E γ^T < 1, T being an episode's
    number of steps. The lecture prints 1/(1 − γ) in front, which makes no distribution.
    """
    flow = jnp.eye(mdp.num_states) - mdp.discount * state_transition(mdp, policy)
    return (1 - mdp.discount) * jnp.linalg.solve(flow.T, mdp.initial)
