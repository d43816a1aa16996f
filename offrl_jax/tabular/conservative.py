"""Conservative Q-learning on tables: fixed points and bounds.

Kumar et al. 2020, arXiv:2006.04779, with weight α and Bellman errors halved:

  min_Q  α penalty(Q) + ½ E_{s, a~β} ( Q(s, a) − B Q̂(s, a) )²

β must be positive wherever π or μ is: an action that the data lack is pushed to −∞.
"""

import jax
import jax.numpy as jnp

from offrl_jax.tabular.control import optimal_backup
from offrl_jax.tabular.evaluation import discounted_sum, policy_backup, q_value
from offrl_jax.tabular.fixed_point import fixed_point
from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Float, Scalar


def action_ratio(pushed: Float[Array, "S A"], behavior: Float[Array, "S A"]) -> Array:
    """μ(a|s) / β(a|s), 0 where μ = 0 and ∞ where only β is."""
    return jnp.where(pushed > 0, pushed / behavior, 0.0)


def chi_squared(policy: Float[Array, "S A"], behavior: Float[Array, "S A"]) -> Float[Array, "S"]:
    """χ²(π‖β) = Σ_a ( π(a|s) − β(a|s) )² / β(a|s), ∞ where π leaves the support of β."""
    distance = jnp.square(policy - behavior)
    return jnp.sum(jnp.where(distance > 0, distance / behavior, 0.0), axis=-1)


def cql_v1(
    mdp: MDP,
    policy: Float[Array, "S A"],
    behavior: Float[Array, "S A"],
    alpha: Scalar,
    *,
    pushed: Float[Array, "S A"],
) -> Float[Array, "S A"]:
    """Q̂ = Q^π − α (I − γ P^π)⁻¹ [μ / β] ≤ Q^π at every state and action.

    Fixed point of eq. 1: penalty E_μ Q, μ being `pushed`. Source: theorem 3.1, without
    sampling error.
    """
    return q_value(mdp, policy) - alpha * discounted_sum(
        mdp, policy, action_ratio(pushed, behavior)
    )


def cql_v2(
    mdp: MDP,
    policy: Float[Array, "S A"],
    behavior: Float[Array, "S A"],
    alpha: Scalar,
    *,
    pushed: Float[Array, "S A"] | None = None,
) -> Float[Array, "S A"]:
    """Q̂ = Q^π − α (I − γ P^π)⁻¹ [μ / β − 1], μ being `pushed`, or π without it.

    Fixed point of eq. 2: penalty E_μ Q − E_β Q. For μ = π its value is a lower bound,

      E_π Q̂ = V^π − α (I − γ P_π)⁻¹ χ²(π‖β) ≤ V^π,

    but Q̂ itself is not one: at the last step of an episode it is too high wherever π < β.

    Source: theorem 3.2, without sampling error.
    """
    ratio = action_ratio(policy if pushed is None else pushed, behavior)
    return q_value(mdp, policy) - alpha * discounted_sum(mdp, policy, ratio - 1)


@jax.jit
def penalised_evaluation(
    mdp: MDP, policy: Float[Array, "S A"], penalty: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """The limit of Q ← B^π Q − penalty, by iteration from 0.

    With penalty α μ/β that is the iteration whose limit `cql_v1` writes down, with α (μ/β − 1)
    that of `cql_v2`: each step is the minimiser of the loss above.
    """
    return fixed_point(
        lambda q: policy_backup(mdp, policy, q) - penalty,
        jnp.zeros_like(mdp.reward),
        mdp.discount,
    )


@jax.jit
def cql_h_minimiser(
    target: Float[Array, "S A"], behavior: Float[Array, "S A"], alpha: Scalar
) -> Float[Array, "S A"]:
    """argmin_Q α [ log Σ_a e^Q(s, a) − E_β Q ] + ½ E_β ( Q − y )², state by state.

    That is the root of Q − y + α ( softmax(Q) / β − 1 ), found by Newton's method with a line
    search along powers of ½, which ends when no step makes the residual smaller. Where an action
    has β = 0 its Q would fall without end: the state is NaN.

    Source: eq. 4 (CQL(H)).
    """
    shrink = 0.5 ** jnp.arange(20)

    def residual(q, y, beta):
        return q - y + alpha * (jax.nn.softmax(q) / beta - 1)

    def one_state(y, beta):
        def error(q):
            return jnp.max(jnp.abs(residual(q, y, beta)))

        def improve(carry):
            q, least, _ = carry
            step = jnp.linalg.solve(jax.jacobian(residual)(q, y, beta), residual(q, y, beta))
            tried = q[None] - shrink[:, None] * step[None]
            errors = jax.vmap(error)(tried)
            best = jnp.argmin(errors)
            better = errors[best] < least
            return jnp.where(better, tried[best], q), jnp.minimum(errors[best], least), better

        q = jax.lax.while_loop(lambda carry: carry[-1], improve, (y, error(y), True))[0]
        return jnp.where(jnp.all(beta > 0), q, jnp.nan)  # else there is no minimum

    return jax.vmap(one_state)(target, behavior)


@jax.jit
def cql_h(
    mdp: MDP,
    behavior: Float[Array, "S A"],
    alpha: Scalar,
    policy: Float[Array, "S A"] | None = None,
) -> Float[Array, "S A"]:
    """CQL(H): the Q with Q = y − α ( softmax(Q) / β − 1 ), y = B* Q, or B^π Q if π is given. Give a
    β > 0, as of `behavior_policy` with a prior count; what a zero can reach is NaN.

    The minimiser for a target moves by at most as much as the target does, so that the iteration
    is a contraction at rate γ as the backups are.

    Source: eq. 4 (CQL(H)).
    """

    def update(q):
        y = optimal_backup(mdp, q) if policy is None else policy_backup(mdp, policy, q)
        return cql_h_minimiser(y, behavior, alpha)

    return fixed_point(update, jnp.zeros_like(mdp.reward), mdp.discount)
