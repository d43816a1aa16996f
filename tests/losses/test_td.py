import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.losses.td import (
    cross_entropy_loss,
    discor_weights,
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


def test_weights_of_one_over_the_batch_give_the_mean_and_get_no_gradient():
    q, target = jax.random.normal(jax.random.key(0), (3, 8)), jnp.linspace(-1.0, 1.0, 8)
    uniform = jnp.full((3, 8), 1 / 8)
    np.testing.assert_allclose(
        ensemble_loss(q, target, uniform), ensemble_loss(q, target), rtol=1e-6
    )
    weight = jnp.zeros((3, 8)).at[1, 2].set(0.5)
    expected = 0.5 * (float(q[1, 2]) - float(target[2])) ** 2
    np.testing.assert_allclose(ensemble_loss(q, target, weight), expected, rtol=1e-5)
    assert not jax.grad(lambda w: ensemble_loss(q, target, w))(uniform).any()


def test_cross_entropy_by_its_definition_and_its_gradient():
    logit = np.random.default_rng(0).normal(size=(3, 8)) * 2
    target = np.linspace(0.0, 1.0, 8)
    q = 1 / (1 + np.exp(-logit))
    expected = -(target * np.log(q) + (1 - target) * np.log(1 - q)).mean(1).sum()
    loss, gradient = jax.value_and_grad(cross_entropy_loss)(jnp.asarray(logit), jnp.asarray(target))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, (q - target) / 8, atol=1e-6)
    far = cross_entropy_loss(jnp.full((1, 2), 200.0), jnp.array([1.0, 0.0]))
    assert float(far) == pytest.approx(100.0)  # no logarithm of 0


def test_discor_weights_by_hand():
    """Δ̄ / T of 1 and 2, γ = ½: e^{−½} and e^{−1}; a true end's target is certain: e⁰."""
    next_error = jnp.array([[10.0, 20.0, 99.0], [3.0, 6.0, 99.0]])
    weight = discor_weights(next_error, jnp.array([0.0, 0.0, 1.0]), 0.5, jnp.array([10.0, 3.0]))
    expected = np.exp([-0.5, -1.0, 0.0])
    np.testing.assert_allclose(weight, [expected / expected.sum()] * 2, rtol=1e-6)


def test_discor_weights_sum_to_one_and_are_uniform_where_the_error_is():
    temperature = jnp.array([2.0, 0.1])
    error = 5 * jax.random.uniform(jax.random.key(0), (2, 16))
    weight = discor_weights(error, jnp.zeros(16), 0.9, temperature)
    np.testing.assert_allclose(weight.sum(1), 1.0, rtol=1e-6)
    assert weight.max() > 2 / 16
    same = discor_weights(jnp.full((2, 16), 7.0), jnp.zeros(16), 0.9, temperature)
    np.testing.assert_allclose(same, 1 / 16, rtol=1e-6)


def test_the_weighted_loss_is_the_same_of_a_batch_twice():
    """The weights sum to 1, so it is a mean and not a sum over the batch."""
    q, error = (jax.random.normal(jax.random.key(i), (2, 8)) for i in (0, 1))
    target, terminal = jnp.linspace(-1.0, 1.0, 8), jnp.zeros(8)

    def loss(n):
        weight = discor_weights(jnp.tile(error, n), jnp.tile(terminal, n), 0.9, jnp.ones(2))
        return ensemble_loss(jnp.tile(q, n), jnp.tile(target, n), weight)

    np.testing.assert_allclose(loss(2), loss(1), rtol=1e-5)


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
