"""CQL's fixed points against its losses' gradients, followed in NumPy; its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from tests import finite

ALPHA = 0.3
CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def problem(seed):
    return finite.random_mdp(seed), *(finite.random_policy(seed + i) for i in (10, 20, 30))


def backup_of(mdp, policy=None):
    def backup(q):
        value = q.max(1) if policy is None else (np.asarray(policy) * q).sum(1)
        return np.asarray(mdp.reward) + finite.DISCOUNT * finite.next_mean(mdp, value)

    return backup


@pytest.mark.parametrize("seed", [0, 1])
def test_eq_1_is_a_lower_bound_at_every_action(seed):
    mdp, policy, behavior, pushed = problem(seed)
    q = tabular.cql_v1(mdp, policy, behavior, ALPHA, pushed=pushed)
    followed = finite.slopes_followed(
        mdp, backup_of(mdp, policy), behavior, lambda q: ALPHA * np.asarray(pushed)
    )
    np.testing.assert_allclose(q, followed, **CLOSE)
    assert (q < tabular.q_value(mdp, policy)).all()
    iterated = tabular.penalised_evaluation(mdp, policy, ALPHA * pushed / behavior)
    np.testing.assert_allclose(q, iterated, **CLOSE)


@pytest.mark.parametrize("seed", [0, 1])
def test_eq_2_is_a_lower_bound_of_the_value(seed):
    mdp, policy, behavior, pushed = problem(seed)
    for mu in (pushed, policy):
        q = tabular.cql_v2(mdp, policy, behavior, ALPHA, pushed=mu)
        followed = finite.slopes_followed(
            mdp,
            backup_of(mdp, policy),
            behavior,
            lambda q, mu=mu: ALPHA * np.asarray(mu - behavior),
        )
        np.testing.assert_allclose(q, followed, **CLOSE)
        iterated = tabular.penalised_evaluation(mdp, policy, ALPHA * (mu / behavior - 1))
        np.testing.assert_allclose(q, iterated, **CLOSE)
    np.testing.assert_array_equal(tabular.cql_v2(mdp, policy, behavior, ALPHA), q)  # μ = π
    value, true = tabular.policy_mean(policy, q), tabular.state_value(mdp, policy)
    pi, beta = np.asarray(policy), np.asarray(behavior)
    chi_squared = np.repeat((pi**2 / beta).sum(1, keepdims=True) - 1, finite.NUM_ACTIONS, axis=1)
    np.testing.assert_allclose(tabular.chi_squared(policy, behavior), chi_squared[:, 0], **CLOSE)
    lost = (pi * finite.evaluated(mdp, policy, chi_squared)).sum(1)  # (I − γ P_π)⁻¹ χ²
    np.testing.assert_allclose(value, true - ALPHA * lost, **CLOSE)
    assert (value < true).all()


def test_eq_2_breaks_the_bound_at_single_actions_of_a_bandit():
    bandit = tabular.MDP(
        transition=jnp.ones((1, 2, 1)),
        reward=jnp.array([[1.0, 2.0]]),
        terminal=jnp.ones((1, 2)),
        initial=jnp.ones(1),
        discount=jnp.asarray(0.9),
    )
    policy, behavior = jnp.array([[0.1, 0.9]]), jnp.array([[0.5, 0.5]])
    q = tabular.cql_v2(bandit, policy, behavior, ALPHA)
    np.testing.assert_allclose(q - bandit.reward, [[0.8 * ALPHA, -0.8 * ALPHA]], **CLOSE)
    assert tabular.policy_mean(policy, q - bandit.reward)[0] < 0
    q = tabular.cql_v1(bandit, policy, behavior, ALPHA, pushed=policy)
    np.testing.assert_allclose(q - bandit.reward, [[-0.2 * ALPHA, -1.8 * ALPHA]], **CLOSE)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("controlled", [False, True])
def test_cql_h_is_stationary(alpha, controlled):
    mdp, policy, behavior, _ = problem(0)
    policy = None if controlled else policy
    q = tabular.cql_h(mdp, behavior, alpha, policy)
    y = backup_of(mdp, policy)(np.asarray(q))
    residual = q - y + alpha * (finite.softmax(np.asarray(q)) / behavior - 1)
    np.testing.assert_allclose(residual, 0.0, **CLOSE)
    assert np.abs(q - y).max() > alpha / 10
    if alpha == 0.3:
        followed = finite.slopes_followed(
            mdp,
            backup_of(mdp, policy),
            behavior,
            lambda q: alpha * (finite.softmax(q) - np.asarray(behavior)),
        )
        np.testing.assert_allclose(q, followed, **CLOSE)


def test_cql_h_is_found_where_newtons_own_steps_would_cycle():
    """A strong penalty, a rare action far above the others: full steps jump to and fro."""
    target, behavior, alpha = jnp.array([[30.0, 0.0]]), jnp.array([[0.001, 0.999]]), 1.0
    q = tabular.cql_h_minimiser(target, behavior, alpha)
    residual = q - target + alpha * (jax.nn.softmax(q) / behavior - 1)
    np.testing.assert_allclose(residual, 0.0, **CLOSE)


def test_actions_that_the_data_lack_are_pushed_without_end():
    policy, behavior = jnp.array([[0.5, 0.5, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(tabular.action_ratio(policy, behavior), [[0.5, np.inf, 0.0]])
    np.testing.assert_array_equal(tabular.chi_squared(policy, behavior), [np.inf])
    assert tabular.chi_squared(behavior, policy) == 1.0
