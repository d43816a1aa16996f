"""Policies held near the behaviour β: fixed points of BRAC-v, of KL-control and of a χ² penalty."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from offrl_jax.tabular.conservative import chi_squared
from offrl_jax.tabular.evaluation import (
    discounted_state_sum,
    discounted_sum,
    policy_mean,
    q_value,
)
from offrl_jax.tabular.fixed_point import fixed_point
from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Float, InputError, Scalar


def kl(policy: Float[Array, "S A"], behavior: Float[Array, "S A"]) -> Float[Array, "S"]:
    """KL(π‖β) = Σ_a π log(π / β), ∞ where π leaves the support of β."""
    log_behavior = jnp.where(policy > 0, jnp.log(behavior), 0.0)
    return jnp.sum(xlogy(policy, policy) - policy * log_behavior, axis=-1)


def brac_v(
    mdp: MDP,
    policy: Float[Array, "S A"],
    divergence: Float[Array, "S"],
    alpha: Scalar,
    *,
    penalty_position: str = "next_state",
) -> Float[Array, "S A"]:
    """What BRAC's penalised critic converges to for a fixed policy with divergence D(s) ≥ 0.

    next_state: Q^π − γ P (I − γ P_π)⁻¹ α D, from targets r + γ (1 − d) E_π [Q − α D](s')
    state:      Q^π − (I − γ P^π)⁻¹ α D(s), from targets r − α D(s) + γ (1 − d) E_π Q(s')

    Source: Wu et al. 2019, arXiv:1911.11361, eq. 3, which pays at the next state; the lecture
    prints the other. They differ by α D(s), the same for all actions.

    Raises:
      InputError: For another position.
    """
    if penalty_position == "next_state":
        paid = discounted_state_sum(mdp, policy, alpha * divergence)
        return q_value(mdp, policy) - mdp.discount * mdp.successors() @ paid
    if penalty_position == "state":
        paid = jnp.broadcast_to(alpha * divergence[:, None], mdp.reward.shape)
        return q_value(mdp, policy) - discounted_sum(mdp, policy, paid)
    raise InputError(f"penalty_position is {penalty_position!r}; use next_state or state")


class Constrained(NamedTuple):
    """The optimum of E Σ_t γ^t [ r − α D(π‖β) ].

    Attributes:
      q: Q = r + γ P V.
      value: V(s) = max_π E_π Q − α D(π‖β).
      policy: The π of that maximum.
    """

    q: Float[Array, "S A"]
    value: Float[Array, "S"]
    policy: Float[Array, "S A"]


def kl_best_response(
    q: Float[Array, "S A"], behavior: Float[Array, "S A"], alpha: Scalar
) -> tuple[Float[Array, "S A"], Float[Array, "S"]]:
    """π = β e^{(Q − V)/α} and V = α log E_β e^{Q/α}, the maximum of E_π Q − α KL(π‖β); α > 0."""
    tilted = jnp.log(behavior) + q / alpha
    return jax.nn.softmax(tilted, axis=-1), alpha * jax.nn.logsumexp(tilted, axis=-1)


def chi_squared_best_response(
    q: Float[Array, "S A"], behavior: Float[Array, "S A"], alpha: Scalar
) -> tuple[Float[Array, "S A"], Float[Array, "S"]]:
    """π = β (1 + (Q − ν)/(2α))₊ with ν such that Σ_a π = 1, and V = E_π Q − α χ²(π‖β); α > 0.

    π = β · (f′)⁻¹((Q − ν)/α)₊ for f(t) = (t − 1)². Σ_a π falls in ν and passes 1 between β's lowest
    and highest Q, where ν is found by bisection.
    """

    def policy_of(multiplier):
        return behavior * jnp.maximum(1 + (q - multiplier[:, None]) / (2 * alpha), 0.0)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        too_low = jnp.sum(policy_of(middle), axis=-1) > 1
        return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

    seen = behavior > 0
    low = jnp.min(jnp.where(seen, q, jnp.inf), axis=-1)
    high = jnp.max(jnp.where(seen, q, -jnp.inf), axis=-1)
    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    policy = policy_of((low + high) / 2)
    policy = policy / jnp.sum(policy, axis=-1, keepdims=True)
    return policy, policy_mean(policy, q) - alpha * chi_squared(policy, behavior)


@partial(jax.jit, static_argnums=3)
def _constrained(mdp: MDP, behavior: Array, alpha: Scalar, best_response: Callable) -> Constrained:
    def q_of(value):
        return mdp.reward + mdp.discount * mdp.successors() @ value

    value = fixed_point(
        lambda v: best_response(q_of(v), behavior, alpha)[1],
        jnp.zeros_like(mdp.initial),
        mdp.discount,
    )
    policy, value = best_response(q_of(value), behavior, alpha)
    return Constrained(q_of(value), value, policy)


def kl_control(mdp: MDP, behavior: Float[Array, "S A"], alpha: Scalar) -> Constrained:
    """The optimum under a KL penalty, by soft value iteration.

    V = α log E_β e^{Q/α},   Q = r + γ P V,   π = β e^{(Q − V)/α}

    α → 0 gives the greedy policy within the support of β, α → ∞ gives β.

    Source: Jaques et al. 2019, arXiv:1907.00456, section 4.2, solved exactly.
    """
    return _constrained(mdp, behavior, alpha, kl_best_response)


def chi_squared_control(mdp: MDP, behavior: Float[Array, "S A"], alpha: Scalar) -> Constrained:
    """The optimum under a χ² penalty, which drops actions altogether, by value iteration.

    V = max_π E_π Q − α χ²(π‖β),   Q = r + γ P V,   π = β (1 + (Q − ν)/(2α))₊

    Source: Xu et al. 2023, arXiv:2303.15810 (SQL), whose E_π [π/β − 1] is χ²(π‖β).
    """
    return _constrained(mdp, behavior, alpha, chi_squared_best_response)
