import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.losses.conservative import importance_weighted_logsumexp, uniform_log_density

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
