import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from offrl_jax.networks.distributions import Categorical, Gaussian, TanhGaussian

KEY = jax.random.key(0)


def oracle(mean, log_std):
    return distrax.Transformed(
        distrax.MultivariateNormalDiag(mean, jnp.exp(log_std)), distrax.Block(distrax.Tanh(), 1)
    )


@pytest.fixture
def policy():
    mean_key, std_key = jax.random.split(KEY)
    return TanhGaussian(jax.random.normal(mean_key, (5, 3)), jax.random.normal(std_key, (5, 3)) / 2)


def test_log_prob_agrees_with_distrax(policy):
    action = jax.random.uniform(KEY, (5, 3), minval=-0.99, maxval=0.99)
    np.testing.assert_allclose(
        policy.log_prob(action), oracle(*policy).log_prob(action), rtol=1e-4, atol=1e-4
    )


def test_a_sample_comes_with_its_own_density(policy):
    action, log_prob = policy.sample_and_log_prob(KEY, 7)
    assert action.shape == (5, 7, 3) and log_prob.shape == (5, 7)
    inside = np.abs(action).max(-1) < 0.99
    for n in range(7):
        expected = policy.log_prob(action[:, n])
        np.testing.assert_allclose(
            log_prob[:, n][inside[:, n]], expected[inside[:, n]], rtol=1e-3, atol=1e-3
        )
    assert inside.mean() > 0.5


def test_density_integrates_to_one():
    policy = TanhGaussian(jnp.full((1, 1), 0.4), jnp.full((1, 1), -0.7))
    grid = np.linspace(-0.9989, 0.9989, 20_001, dtype=np.float32)
    density = np.exp(jax.vmap(policy.log_prob)(grid[:, None, None]))[:, 0]
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-3)


def test_entropy_is_the_gaussians_plus_the_mean_log_jacobian():
    policy = TanhGaussian(jnp.full((1, 2), 0.3), jnp.full((1, 2), -1.0))
    action, log_prob = policy.sample_and_log_prob(KEY, 200_000)
    gaussian_entropy = 2 * (0.5 * np.log(2 * np.pi * np.e) - 1.0)
    log_jacobian = np.log(1 - np.asarray(action, np.float64) ** 2).sum(-1).mean()
    assert -log_prob.mean() == pytest.approx(gaussian_entropy + log_jacobian, abs=0.01)


def test_samples_are_independent_across_the_sample_axis(policy):
    action, _ = policy.sample_and_log_prob(KEY, 2)
    assert not np.allclose(action[:, 0], action[:, 1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_saturated_actions_have_a_finite_density_and_gradient(dtype):
    def loss(mean):
        return (
            TanhGaussian(mean, jnp.zeros((1, 2), dtype))
            .log_prob(jnp.array([[1.0, -1.0]], dtype))
            .sum()
        )

    value, gradient = jax.value_and_grad(loss)(jnp.zeros((1, 2), dtype))
    assert np.isfinite(float(value)) and np.isfinite(np.asarray(gradient, np.float32)).all()


def test_large_pre_tanh_values_have_a_finite_density_and_gradient():
    def loss(mean):
        return TanhGaussian(mean, jnp.zeros((1, 1))).sample_and_log_prob(KEY)[1].sum()

    for mean in (-50.0, 50.0):
        value, gradient = jax.value_and_grad(loss)(jnp.full((1, 1), mean))
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_mode_is_the_tanh_of_the_mean(policy):
    np.testing.assert_allclose(policy.mode(), np.tanh(policy.mean), rtol=1e-6)


def test_pre_tanh_scales_each_states_noise_and_shifts_it(policy):
    noise = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    expected = [
        [policy.mean[b] + np.exp(policy.log_std[b]) * noise[b, n] for n in range(4)]
        for b in range(5)
    ]
    np.testing.assert_allclose(policy.pre_tanh(jnp.asarray(noise)), expected, rtol=1e-4, atol=1e-6)


def test_states_that_share_noise_equal_states_given_the_same_noise_each(policy):
    noise = jax.random.normal(KEY, (1, 4, 3))
    np.testing.assert_array_equal(
        policy.pre_tanh(noise), policy.pre_tanh(jnp.repeat(noise, 5, axis=0))
    )


def test_samples_are_the_tanh_of_pre_tanh(policy):
    action, _ = policy.sample_and_log_prob(KEY, 7)
    noise = jax.random.normal(KEY, (5, 7, 3))
    np.testing.assert_allclose(np.tanh(policy.pre_tanh(noise)), action, rtol=1e-5, atol=1e-6)


# What both distributions share

SQUASH = {Gaussian: lambda u: np.clip(u, -1, 1), TanhGaussian: np.tanh}
over_distributions = pytest.mark.parametrize("distribution", SQUASH)


@over_distributions
def test_actions_squash_the_scaled_and_shifted_noise(distribution, policy):
    noise = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    mean, log_std = (np.asarray(x, np.float64)[:, None] for x in policy)
    expected = SQUASH[distribution](mean + np.exp(log_std) * noise)
    ours = distribution(*policy).actions(jnp.asarray(noise))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    shared = distribution(*policy).actions(jnp.asarray(noise[:1]))
    expected = SQUASH[distribution](mean + np.exp(log_std) * noise[:1])
    np.testing.assert_allclose(shared, expected, rtol=1e-4, atol=1e-5)


@over_distributions
@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3)])
def test_a_sample_is_one_action_a_state_within_the_bounds(distribution, shape):
    action = distribution(jnp.zeros(shape), jnp.full(shape, 2.0)).sample(KEY)
    assert action.shape == shape
    assert np.abs(action).max() <= 1
    assert len(set(action.ravel().tolist())) > 1


@over_distributions
def test_samples_have_the_mean_and_deviation_before_squashing(distribution):
    n, mean, std = 100_000, np.array([0.1, -0.2]), np.array([0.1, 0.15])
    arrays = (jnp.tile(jnp.asarray(x, jnp.float32)[None], (n, 1)) for x in (mean, np.log(std)))
    action = np.asarray(distribution(*arrays).sample(KEY), np.float64)
    noise = ((np.arctanh(action) if distribution is TanhGaussian else action) - mean) / std
    np.testing.assert_allclose(noise.mean(0), 0.0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(noise.std(0), 1.0, atol=4 / np.sqrt(2 * n))
    assert abs(np.corrcoef(noise.T)[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 4 / np.sqrt(n)


@over_distributions
def test_another_key_gives_another_sample(distribution, policy):
    narrow = distribution(policy.mean / 10, policy.log_std - 3)
    first, again, other = (narrow.sample(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


# The Gaussian


def test_gaussian_log_prob_is_a_sum_of_normal_log_densities(policy):
    action = jax.random.uniform(KEY, (5, 3), minval=-1, maxval=1).at[0].set(1.0).at[1].set(-1.0)
    mean, std = np.tanh(policy.mean), np.exp(np.asarray(policy.log_std, np.float64))
    ours = Gaussian(jnp.asarray(mean), policy.log_std).log_prob(action)
    expected = stats.norm(mean, std).logpdf(np.asarray(action)).sum(-1)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_gaussian_samples_beyond_the_bounds_lie_on_them():
    action = Gaussian(jnp.full((20_000, 1), 0.5), jnp.zeros((20_000, 1))).sample(KEY)
    for bound, share in ((1.0, stats.norm.sf(0.5)), (-1.0, stats.norm.cdf(-1.5))):
        assert (action == bound).mean() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("log_std", [-5.0, 2.0])
def test_gaussian_densities_at_the_bounds_are_finite(log_std):
    def loss(mean, log_std, action):
        return Gaussian(mean, log_std).log_prob(action).sum()

    arrays = jnp.zeros((1, 2)), jnp.full((1, 2), log_std), jnp.array([[1.0, -1.0]])
    value, gradient = jax.value_and_grad(loss, (0, 1, 2))(*arrays)
    assert value == pytest.approx(2 * stats.norm(0, np.exp(log_std)).logpdf(1.0), rel=1e-4)
    assert np.isfinite(jnp.stack(gradient)).all()


def test_the_mode_of_a_gaussian_is_its_mean(policy):
    gaussian = Gaussian(*policy)
    np.testing.assert_array_equal(gaussian.mode(), policy.mean)
    assert (gaussian.log_prob(gaussian.mode()) > gaussian.log_prob(policy.mean + 0.01)).all()


def test_categorical_agrees_with_distrax_and_samples_one_hot_rows():
    logits = jax.random.normal(KEY, (5, 3))
    ours, theirs = Categorical(logits), distrax.Categorical(logits)
    action = jnp.eye(3)[jnp.array([0, 2, 1, 1, 0])]
    np.testing.assert_allclose(ours.log_prob(action), theirs.log_prob(action.argmax(1)), atol=1e-6)
    np.testing.assert_array_equal(ours.mode().argmax(1), theirs.mode())
    samples = jax.vmap(ours.sample)(jax.random.split(KEY, 20_000))
    np.testing.assert_array_equal(jnp.sort(samples[:9], axis=-1), [[[0, 0, 1]] * 5] * 9)
    np.testing.assert_allclose(samples.mean(0), jax.nn.softmax(logits), atol=0.015)
