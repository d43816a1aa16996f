"""Accident critics: the sign, the bounds, and where they end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from offrl_jax.types import InputError
from tests import finite

ALPHA = 0.03
CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def problem(seed):
    """Entering the last state costs 1 and ends the episode: C is its probability."""
    mdp = finite.random_mdp(seed)
    rows = np.random.default_rng(seed)
    failing = jnp.asarray(rows.uniform(0, 0.3, mdp.reward.shape))
    mdp = mdp._replace(terminal=failing + (1 - failing) * mdp.terminal)
    return mdp, failing, finite.random_policy(seed + 10), finite.random_policy(seed + 20)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_critic_over_estimates_and_the_lectures_sign_under_estimates(seed):
    mdp, cost, policy, behavior = problem(seed)
    true = tabular.accident_value(mdp, cost, policy)
    np.testing.assert_allclose(true, finite.evaluated(mdp, policy, cost), **CLOSE)
    assert (true >= 0).all() and (true <= 1).all()
    pi, beta = np.asarray(policy), np.asarray(behavior)

    def backup(q):
        return np.asarray(cost) + finite.DISCOUNT * finite.next_mean(mdp, (pi * q).sum(1))

    chi_squared = np.repeat(((pi - beta) ** 2 / beta).sum(1)[:, None], finite.NUM_ACTIONS, axis=1)
    shift = ALPHA * (pi * finite.evaluated(mdp, policy, chi_squared)).sum(1)
    true_value = tabular.policy_mean(policy, true)
    for form, sign in (("value", 1), ("lecture", -1)):
        q = tabular.conservative_accident_critic(mdp, cost, policy, behavior, ALPHA, form=form)
        followed = finite.slopes_followed(
            mdp, backup, behavior, lambda q, sign=sign: sign * ALPHA * (beta - pi)
        )
        np.testing.assert_allclose(q, followed, **CLOSE)
        value = tabular.policy_mean(policy, q)
        np.testing.assert_allclose(value, true_value + sign * shift, **CLOSE)
        assert (sign * (value - true_value) > 0).all()
    q = tabular.conservative_accident_critic(mdp, cost, policy, behavior, ALPHA)
    of_negative = tabular.cql_v2(mdp._replace(reward=-cost), policy, behavior, ALPHA)
    np.testing.assert_allclose(q, -of_negative, **CLOSE)


def test_pushing_uniform_actions_up_over_estimates_everywhere():
    mdp, cost, policy, behavior = problem(2)
    true = tabular.accident_value(mdp, cost, policy)
    settings = mdp, cost, policy, behavior, ALPHA
    q = tabular.conservative_accident_critic(*settings, form="pointwise")
    assert (q > true).all()
    shift = finite.evaluated(mdp, policy, 1 / (finite.NUM_ACTIONS * np.asarray(behavior)))
    np.testing.assert_allclose(q - true, ALPHA * shift, **CLOSE)
    with pytest.raises(InputError, match="form is 'upwards'; use one of value, pointwise, lecture"):
        tabular.conservative_accident_critic(*settings, form="upwards")


def test_single_actions_of_a_bandit_may_be_under_estimated():
    bandit = finite.two_action_bandit()
    cost = jnp.array([[0.5, 0.2]])
    policy, behavior = jnp.array([[0.1, 0.9]]), jnp.array([[0.5, 0.5]])
    q = tabular.conservative_accident_critic(bandit, cost, policy, behavior, ALPHA)
    np.testing.assert_allclose(q - cost, [[-0.024, 0.024]], **CLOSE)
    np.testing.assert_allclose(tabular.policy_mean(policy, q - cost), [0.0192], **CLOSE)


def test_a_shield_keeps_what_is_safe_or_takes_the_least_dangerous():
    policy = jnp.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.0, 0.5, 0.5]])
    danger = jnp.array([[0.1, 0.2, 0.9], [0.6, 0.5, 0.9], [0.1, 0.8, 0.9]])
    shielded = tabular.shielded_policy(policy, danger, jnp.full(3, 0.3))
    np.testing.assert_allclose(
        shielded, [[0.4, 0.6, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], **CLOSE
    )
    np.testing.assert_array_equal(
        tabular.shielded_policy(policy, danger, jnp.full(3, -0.1)).argmax(1), [0, 1, 0]
    )
