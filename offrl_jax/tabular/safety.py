"""How likely accidents are, and critics that would rather over-estimate it.

A cost C(s, a) of 1 where a failure is entered, after which the episode ends, makes
V_C = E Σ_t γ^t C_t a discounted probability of an accident, in [0, 1].

Source: Bharadhwaj et al. 2021, arXiv:2010.14497 (Conservative Safety Critics).
"""

import jax.numpy as jnp

from offrl_jax.tabular.conservative import action_ratio
from offrl_jax.tabular.evaluation import discounted_sum
from offrl_jax.tabular.mdp import MDP, uniform_policy
from offrl_jax.types import Array, Float, InputError, Scalar


def accident_value(
    mdp: MDP, cost: Float[Array, "S A"], policy: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """Q_C = (I − γ P^π)⁻¹ C; V_C is its mean under π."""
    return discounted_sum(mdp, policy, cost)


def conservative_accident_critic(
    mdp: MDP,
    cost: Float[Array, "S A"],
    policy: Float[Array, "S A"],
    behavior: Float[Array, "S A"],
    alpha: Scalar,
    *,
    form: str = "value",
) -> Float[Array, "S A"]:
    """Q̂_C = Q_C + α (I − γ P^π)⁻¹ x, where the penalty of the critic's loss decides x.

    value:     α (E_β Q_C − E_π Q_C), x = π/β − 1. V̂_C = V_C + α (I − γ P_π)⁻¹ χ²(π‖β) ≥ V_C: the
               value is over-estimated, but single actions with π < β may be under-estimated.
               The same as `cql_v2` of the reward −C, negated.
    pointwise: −α E_μ Q_C with uniform μ, x = μ/β. Q̂_C ≥ Q_C at every state and action.
    lecture:   the sign that the lecture prints, x = 1 − π/β. V̂_C ≤ V_C: it *under*-estimates, and
               is here to show that.

    Raises:
      InputError: For another form.
    """
    ratio = action_ratio(policy, behavior)
    pushed = {
        "value": ratio - 1,
        "pointwise": action_ratio(uniform_policy(mdp), behavior),
        "lecture": 1 - ratio,
    }
    if form not in pushed:
        raise InputError(f"form is {form!r}; use one of {', '.join(pushed)}")
    return accident_value(mdp, cost, policy) + alpha * discounted_sum(mdp, policy, pushed[form])


def shielded_policy(
    policy: Float[Array, "S A"], accident_q: Float[Array, "S A"], threshold: Float[Array, "S"]
) -> Float[Array, "S A"]:
    """π drawn again until Q̂_C(s, a) ≤ ε(s); the action of least Q̂_C where π has no such action.

    The paper draws at most 100 times, with ε(s) = (1 − γ)(χ − V̂_C(s)) for a limit χ of V_C.
    """
    safe = jnp.where(accident_q <= threshold[:, None], policy, 0.0)
    total = jnp.sum(safe, axis=-1, keepdims=True)
    least = jnp.argmin(accident_q, axis=-1, keepdims=True) == jnp.arange(policy.shape[-1])[None]
    return jnp.where(total > 0, safe / jnp.where(total > 0, total, 1.0), least)
