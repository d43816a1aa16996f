"""BRAC's, KL-control's and the χ² penalty's fixed points against repetition and search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from offrl_jax.types import InputError
from tests import finite

ALPHA = 0.4
CLOSE = {"rtol": 0, "atol": 1e-9}
CONTROLS = {"kl": tabular.kl_control, "chi_squared": tabular.chi_squared_control}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def divergence(name, policy, behavior):
    pi, beta = np.asarray(policy), np.asarray(behavior)
    ratio = np.divide(pi, beta, out=np.zeros_like(pi), where=beta > 0)
    f = {"kl": ratio * np.log(np.maximum(ratio, 1e-300)), "chi_squared": (ratio - 1) ** 2}[name]
    return (beta * f).sum(1)


def test_divergences_are_their_sums():
    policy, behavior = finite.random_policy(0), finite.random_policy(1)
    np.testing.assert_allclose(
        tabular.kl(policy, behavior), divergence("kl", policy, behavior), **CLOSE
    )
    one, other = jnp.array([[1.0, 0.0]]), jnp.array([[0.5, 0.5]])
    np.testing.assert_allclose(tabular.kl(one, other), [np.log(2)], **CLOSE)
    assert tabular.kl(other, one) == np.inf


@pytest.mark.parametrize("seed", [0, 1])
def test_brac_v_pays_at_the_next_state_or_at_this_one(seed):
    mdp, policy, behavior = (f(seed) for f in (finite.random_mdp, *[finite.random_policy] * 2))
    behavior = finite.random_policy(seed + 10)
    D, pi, r = tabular.kl(policy, behavior), np.asarray(policy), np.asarray(mdp.reward)

    def next_state(q):
        value = (pi * q).sum(1) - ALPHA * np.asarray(D)
        return r + finite.DISCOUNT * finite.next_mean(mdp, value)

    def state(q):
        onwards = finite.next_mean(mdp, (pi * q).sum(1))
        return r - ALPHA * np.asarray(D)[:, None] + finite.DISCOUNT * onwards

    found = [
        tabular.brac_v(mdp, policy, D, ALPHA),
        tabular.brac_v(mdp, policy, D, ALPHA, penalty_position="state"),
    ]
    for q, target in zip(found, (next_state, state), strict=True):
        np.testing.assert_allclose(q, finite.repeat(target, np.zeros(r.shape)), **CLOSE)
    np.testing.assert_allclose(
        found[0] - found[1], np.repeat(ALPHA * D[:, None], finite.NUM_ACTIONS, axis=1), **CLOSE
    )
    with pytest.raises(InputError, match="penalty_position is 'nowhere'"):
        tabular.brac_v(mdp, policy, D, ALPHA, penalty_position="nowhere")


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("seed", [0, 1])
def test_penalised_control_is_the_best_of_its_objective(name, seed):
    """Q = r + γPV, Σπ = 1, V = E_π Q − αD, and no policy has more of E Σ γ^t [r − αD]."""
    mdp, behavior = finite.random_mdp(seed), finite.random_policy(seed + 10)
    q, value, policy = CONTROLS[name](mdp, behavior, ALPHA)
    np.testing.assert_allclose(
        q, mdp.reward + finite.DISCOUNT * finite.next_mean(mdp, np.asarray(value)), **CLOSE
    )
    np.testing.assert_allclose(policy.sum(1), 1.0, **CLOSE)
    kept = (policy * q).sum(1) - ALPHA * divergence(name, policy, behavior)
    np.testing.assert_allclose(value, kept, **CLOSE)

    def worth(policy):
        paid = np.asarray(mdp.reward) - ALPHA * divergence(name, policy, behavior)[:, None]
        return (np.asarray(policy) * finite.evaluated(mdp, policy, paid)).sum(1)

    np.testing.assert_allclose(worth(policy), value, **CLOSE)
    for other in range(20):
        mixed = 0.9 * policy + 0.1 * finite.random_policy(other)
        assert (worth(mixed) < value + 1e-12).all()


def test_kl_control_is_soft_value_iteration():
    """V = α log E_β e^{Q/α} and π = β e^{(Q − V)/α}."""
    mdp, behavior = finite.random_mdp(0), finite.random_policy(1)
    beta = np.asarray(behavior)

    def q_of(value):
        return np.asarray(mdp.reward) + finite.DISCOUNT * finite.next_mean(mdp, value)

    value = finite.repeat(
        lambda v: ALPHA * np.log((beta * np.exp(q_of(v) / ALPHA)).sum(1)), np.zeros(len(beta))
    )
    found = tabular.kl_control(mdp, behavior, ALPHA)
    np.testing.assert_allclose(found.value, value, **CLOSE)
    policy = beta * np.exp((q_of(value) - value[:, None]) / ALPHA)
    np.testing.assert_allclose(found.policy, policy, **CLOSE)


def test_the_chi_squared_response_is_the_best_on_a_fine_grid():
    """Of three actions, the worst of which it drops."""
    q, behavior = jnp.array([[1.0, 0.2, -3.0]]), jnp.array([[0.3, 0.3, 0.4]])
    policy, value = tabular.chi_squared_best_response(q, behavior, 0.8)
    first, second = np.meshgrid(*[np.linspace(0, 1, 401)] * 2)
    grid = np.stack([first, second, 1 - first - second], -1).reshape(-1, 3)
    grid = grid[grid[:, 2] >= -1e-9]
    objective = grid @ np.asarray(q[0]) - 0.8 * ((grid - behavior) ** 2 / behavior).sum(1)
    assert -1e-9 < value[0] - objective.max() < 1e-3
    np.testing.assert_allclose(policy[0], grid[objective.argmax()], atol=0.01)
    assert policy[0, 2] == 0.0 < policy[0, 1]


@pytest.mark.parametrize("name", CONTROLS)
def test_limits_of_the_weight(name):
    """α → 0: greedy among the actions of the data; α → ∞: the behaviour."""
    mdp, behavior = finite.random_mdp(3), finite.random_policy(3)
    best = np.asarray(tabular.q_iteration(mdp)).argmax(1)
    behavior = behavior.at[np.arange(finite.NUM_STATES), best].set(0.0)
    behavior = behavior / behavior.sum(1, keepdims=True)
    control, seen = CONTROLS[name], behavior > 0
    free = control(mdp, behavior, 1e-4)
    q = tabular.q_iteration(mdp, seen)
    np.testing.assert_allclose(free.policy, tabular.greedy_policy(q, seen), atol=1e-6)
    np.testing.assert_allclose(free.q, q, atol=1e-2)
    bound = control(mdp, behavior, 1e6)
    np.testing.assert_allclose(bound.policy, behavior, atol=1e-5)
    np.testing.assert_allclose(bound.value, tabular.state_value(mdp, behavior), atol=1e-4)
