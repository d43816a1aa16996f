import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.losses.td import (
    ensemble_loss,
    ensemble_mix,
    huber_loss,
    polyak,
    quantile_huber_loss,
    td_target,
)


def test_target_bootstraps_unless_terminal():
    target = td_target(jnp.ones(2), jnp.array([0.0, 1.0]), jnp.full(2, 10.0), 0.9)
    np.testing.assert_allclose(target, [10.0, 1.0], rtol=1e-6)


def test_no_gradient_flows_through_the_target():
    gradient = jax.grad(lambda v: td_target(jnp.ones(1), jnp.zeros(1), v, 0.9).sum())(jnp.ones(1))
    assert gradient == 0.0


def test_polyak_moves_by_its_rate():
    moved = polyak({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, 0.25)
    np.testing.assert_allclose(moved["w"], 0.25)
    np.testing.assert_array_equal(polyak(jnp.ones(2), jnp.full(2, 3.0), 1.0), 3.0)


def test_ensemble_loss_is_a_sum_over_critics_of_means_without_a_half():
    q, target = jnp.array([[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]]), jnp.array([3.0, 1.0])
    # squared errors (4, 1), (9, 16), (0, 4)
    np.testing.assert_allclose(ensemble_loss(q, target), 2.5 + 12.5 + 2.0, rtol=1e-6)


def test_the_mix_weighs_the_least_and_the_greatest_critic():
    q = jnp.array([[[1.0, 8.0]], [[5.0, 0.0]], [[2.0, 4.0]]])  # (E, B, N) = (3, 1, 2)
    np.testing.assert_allclose(ensemble_mix(q, 0.75), [[0.75 + 1.25, 2.0]], rtol=1e-6)
    np.testing.assert_array_equal(ensemble_mix(q, 1.0), [[1.0, 0.0]])
    np.testing.assert_array_equal(ensemble_mix(q[:, :, 0], 0.0), [5.0])


def test_huber_is_square_within_its_threshold_and_linear_beyond():
    error = jnp.array([0.0, 0.5, -2.0, 3.0])
    np.testing.assert_allclose(huber_loss(error, 2.0), [0.0, 0.125, 2.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(huber_loss(error, 1e6), 0.5 * error**2, rtol=1e-6)
    slope = jax.vmap(jax.grad(lambda u: huber_loss(u, 2.0)))(error)
    np.testing.assert_allclose(slope, jnp.clip(error, -2.0, 2.0), rtol=1e-6)


def test_quantile_huber_is_its_sum_over_pairs():
    rng = np.random.default_rng(0)
    theta, target, kappa = rng.normal(size=(2, 3)), 2 * rng.normal(size=(2, 5)), 0.7
    expected = np.zeros(2)
    for b in range(2):
        for i in range(3):
            for j in range(5):
                u = target[b, j] - theta[b, i]
                huber = 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                expected[b] += abs((2 * i + 1) / 6 - (u < 0)) * huber / 5
    found = quantile_huber_loss(jnp.asarray(theta), jnp.asarray(target), kappa)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_quantile_loss_is_least_at_the_quantiles():
    """Of 0, …, 9 the three quantiles at 1/6, 1/2, 5/6; κ → 0 is the pinball loss."""
    target = jnp.arange(10.0)
    grid = jnp.linspace(-1, 10, 221)

    def loss(theta, i):
        quantiles = jnp.array([1.5, 4.5, 8.0]).at[i].set(theta)
        return quantile_huber_loss(quantiles, target, 1e-3)

    for i, (low, high) in enumerate([(1, 1), (4, 5), (8, 8)]):
        best = grid[jnp.argmin(jax.vmap(lambda theta, i=i: loss(theta, i))(grid))]
        assert low - 0.06 <= best <= high + 0.06
