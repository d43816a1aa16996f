import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.losses.conservative import (
    importance_weighted_logsumexp,
    logmeanexp,
    logsumexp,
    uniform_log_density,
)

C = np.array([1.0, -2.0, 0.5])


def test_estimates_the_integral_of_a_linear_q():
    """log ∫ exp(c·a) da over [−1, 1]³ is Σ_j log(2 sinh(c_j) / c_j) = 2.8774."""
    exact = np.log(2 * np.sinh(C) / C).sum()
    assert exact == pytest.approx(2.8774, abs=1e-4)
    n = 200_000
    action = jax.random.uniform(jax.random.key(0), (n, 3), minval=-1, maxval=1)
    log_density = jnp.full((1, n), uniform_log_density(3))
    estimate = importance_weighted_logsumexp(
        (action @ jnp.asarray(C, jnp.float32))[None], log_density
    )[0]
    assert estimate - np.log(n) == pytest.approx(exact, abs=0.01)


def test_is_unbiased_by_where_the_actions_come_from():
    """Actions drawn from another density, weighted by it, estimate the same integral."""
    n = 400_000
    action = (
        2 * jnp.sqrt(jax.random.uniform(jax.random.key(1), (n,))) - 1
    )  # density (a + 1) / 2 on [−1, 1]
    log_density = jnp.log((action + 1) / 2)
    estimate = importance_weighted_logsumexp(0.7 * action[None], log_density[None])[0] - np.log(n)
    assert estimate == pytest.approx(np.log(2 * np.sinh(0.7) / 0.7), abs=0.02)


def test_a_constant_added_to_q_adds_itself():
    q = jax.random.normal(jax.random.key(0), (4, 6))
    shifted = importance_weighted_logsumexp(q + 3.0, jnp.zeros((4, 6)))
    np.testing.assert_allclose(
        shifted, importance_weighted_logsumexp(q, jnp.zeros((4, 6))) + 3.0, rtol=1e-5
    )


def test_uniform_density_of_the_action_box():
    assert uniform_log_density(3) == pytest.approx(np.log(1 / 8))


def test_ensemble_members_never_mix():
    q = jax.random.normal(jax.random.key(0), (2, 4, 6))
    together = importance_weighted_logsumexp(q, jnp.zeros((4, 6)))
    for k in range(2):
        alone = importance_weighted_logsumexp(q[k], jnp.zeros((4, 6)))
        np.testing.assert_allclose(together[k], alone, rtol=1e-6)


def test_the_temperature_scales_q_and_the_result():
    """T log Σ e^{Q/T} by hand: 2 log(e^½ + e^{3/2}); a cold one is the maximum."""
    q = jnp.array([[1.0, 3.0]])
    expected = 2 * np.log(np.exp(0.5) + np.exp(1.5))
    assert logsumexp(q, 2.0)[0] == pytest.approx(expected, rel=1e-6)
    assert logmeanexp(q, 2.0)[0] == pytest.approx(expected - 2 * np.log(2), rel=1e-6)
    density = jnp.array([[0.25, 4.0]])
    expected = 2 * np.log(np.exp(0.5) / 0.25**0.5 + np.exp(1.5) / 4**0.5)
    assert importance_weighted_logsumexp(q, jnp.log(density), 2.0)[0] == pytest.approx(
        expected, rel=1e-6
    )
    for function in (logsumexp, logmeanexp):
        assert function(q, 1e-3)[0] == pytest.approx(3.0, abs=1e-2)


def test_the_mean_of_equal_values_is_their_value():
    np.testing.assert_allclose(logmeanexp(jnp.full((2, 5, 7), 4.0)), np.full((2, 5), 4.0))
    np.testing.assert_allclose(logsumexp(jnp.full((5, 7), 4.0)), np.full(5, 4 + np.log(7)))


def test_large_values_stay_finite():
    q = jnp.array([[1e6, -1e6, 0.0]])
    for function in (logsumexp, logmeanexp):
        assert np.isfinite(function(q)).all()
