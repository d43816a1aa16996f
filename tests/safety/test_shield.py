"""The shield on critics that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.safety import shield


def test_the_threshold_is_a_share_of_what_is_left():
    assert float(shield.threshold(0.2, 0.05, 0.9)) == pytest.approx(0.015)
    assert float(shield.threshold(0.2, 0.5, 0.9)) == pytest.approx(-0.03)


def test_refused_draws_follow_the_geometric_distribution():
    """Q_C(a) = a uniform in [0, 1]: a draw passes ε = 0.2 with probability 0.2, so that 4 are
    refused on average, and all 10 with probability 0.8¹⁰."""
    action = jax.random.uniform(jax.random.key(0), (20_000, 10, 1))
    choice = shield.choose(action, action[..., 0], 0.2)
    fallback = 0.8**10
    assert float(choice.is_fallback.mean()) == pytest.approx(fallback, abs=0.01)
    expected = sum(k * 0.2 * 0.8**k for k in range(10)) + 10 * fallback
    assert float(choice.num_refused.mean()) == pytest.approx(expected, abs=0.08)
    passed = np.asarray(choice.action[~choice.is_fallback, 0])
    assert passed.max() <= 0.2
    assert passed.mean() == pytest.approx(0.1, abs=0.003)  # uniform among what passes
    assert (np.asarray(choice.action[choice.is_fallback, 0]) > 0.2).all()


def test_the_first_that_passes_is_taken_else_the_least_dangerous():
    action = jnp.arange(8.0).reshape(2, 4, 1)
    q = jnp.array([[0.9, 0.3, 0.1, 0.2], [0.9, 0.8, 0.6, 0.7]])
    choice = shield.choose(action, q, 0.3)
    np.testing.assert_array_equal(choice.index, [1, 2])
    np.testing.assert_array_equal(choice.action[:, 0], [1, 6])
    np.testing.assert_array_equal(choice.is_fallback, [False, True])
    np.testing.assert_array_equal(choice.num_refused, [1, 4])


def test_a_negative_threshold_refuses_everything():
    action = jnp.arange(8.0).reshape(2, 4, 1)
    choice = shield.choose(action, jnp.zeros((2, 4)) + jnp.array([[0.2, 0.0, 0.3, 0.1]]), -0.01)
    assert choice.is_fallback.all()
    np.testing.assert_array_equal(choice.index, [1, 1])
