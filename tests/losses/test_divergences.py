import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial import distance

from offrl_jax.losses.divergences import (
    DUAL_DIVERGENCES,
    F_DIVERGENCES,
    KERNELS,
    SIGMA_SCALE,
    dual_estimate,
    gaussian_kl,
    gaussian_mmd_squared,
    gaussian_wasserstein,
    gradient_penalty,
    kl_from_samples,
    mmd_squared,
    root,
)
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.types import InputError

KEY = jax.random.key(0)
mmd = jax.jit(mmd_squared, static_argnames=("kernel", "unbiased"))
PAIR = (  # means and log-deviations of two diagonal Gaussians
    jnp.array([0.3, -0.2, 0.1]),
    jnp.log(jnp.array([0.3, 0.4, 0.2])),
    jnp.array([-0.1, 0.2, 0.3]),
    jnp.log(jnp.array([0.5, 0.3, 0.3])),
)
SWAPPED = PAIR[2:] + PAIR[:2]

P = np.array([0.1, 0.25, 0.3, 0.05, 0.3])
Q = np.array([0.3, 0.2, 0.1, 0.25, 0.15])
BEST_CRITIC = {  # c with T(c) = f′(t), where t = π/β
    "kl": lambda t: np.log(np.expm1(t)),
    "chi_squared": lambda t: 2 * (t - 1),
    "total_variation": lambda t: 20 * np.sign(t - 1),
    "jensen_shannon": np.log,
}
over_kernels = pytest.mark.parametrize("kernel", KERNELS)
over_divergences = pytest.mark.parametrize("name", F_DIVERGENCES)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def standard_error(values):
    return np.std(values) / np.sqrt(np.size(values))


# Samples: MMD


@over_kernels
@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
def test_identical_sets_are_at_the_root_of_the_constant(kernel, scale):
    x = normal(0, 64, 4, 3)

    def penalty(x, y):
        return root(mmd(x, y, kernel=kernel, scale=scale))

    np.testing.assert_allclose(penalty(x, x), np.sqrt(1e-6), rtol=1e-5)
    np.testing.assert_allclose(penalty(x, x[:, ::-1]), np.sqrt(1e-6), atol=2e-4)
    assert (penalty(x, x + 0.5) > 0.01).all()
    assert np.isfinite(jax.grad(lambda y: penalty(x, y).sum())(x)).all()


def double_loop(x, y, kernel, scale, unbiased):
    power = {"laplacian": 1, "gaussian": 2}[kernel]

    def mean(a, b, skip):
        values = [
            np.exp(-(np.abs(a[i] - b[j]) ** power).sum() / scale)
            for i in range(len(a))
            for j in range(len(b))
            if not (skip and i == j)
        ]
        return np.mean(values)

    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


@over_kernels
@pytest.mark.parametrize("unbiased", [False, True])
def test_mmd_agrees_with_a_double_loop(kernel, unbiased):
    x, y = normal(1, 3, 5, 2), 0.5 + 2 * normal(2, 3, 4, 2)
    ours = mmd(x, y, kernel=kernel, scale=1.7, unbiased=unbiased)
    wide = np.asarray(x, np.float64), np.asarray(y, np.float64)
    loop = [double_loop(*pair, kernel, 1.7, unbiased) for pair in zip(*wide, strict=True)]
    np.testing.assert_allclose(ours, loop, atol=1e-6)
    np.testing.assert_allclose(
        ours, mmd(y, x, kernel=kernel, scale=1.7, unbiased=unbiased), atol=1e-6
    )
    alone = mmd(x[0], y[0], kernel=kernel, scale=1.7, unbiased=unbiased)
    np.testing.assert_allclose(alone, loop[0], atol=1e-6)


@over_kernels
def test_the_scale_may_be_traced(kernel):
    x, y, scales = normal(1, 5, 2), normal(2, 4, 2), jnp.array([0.5, 3.0])
    traced = jax.vmap(lambda s: mmd(x, y, kernel=kernel, scale=s))(scales)
    fixed = [mmd_squared(x, y, kernel=kernel, scale=s) for s in (0.5, 3.0)]
    np.testing.assert_allclose(traced, fixed, rtol=1e-5)


def test_equal_distributions_have_mean_zero_only_without_the_bias():
    """Biased, the mean is (2/n) (1 − κ), κ = (σ / (σ + 2v))^{A/2} at variance v."""
    n, sigma, std = 4, 2.0, 0.5
    x, y = std * normal(0, 20_000, n, 3), std * normal(1, 20_000, n, 3)
    scale = SIGMA_SCALE["bear"] * sigma
    unbiased = mmd(x, y, kernel="gaussian", scale=scale, unbiased=True)
    biased = mmd(x, y, kernel="gaussian", scale=scale)
    expected = 2 / n * (1 - (sigma / (sigma + 2 * std**2)) ** 1.5)
    assert standard_error(unbiased) < 0.01 * expected
    assert abs(unbiased.mean()) < 4 * standard_error(unbiased)
    assert abs(biased.mean() - expected) < 4 * standard_error(biased)


@pytest.mark.parametrize(("kernel", "expected"), [("laplacian", 0.197), ("gaussian", 0.243)])
def test_bears_threshold_is_out_of_reach_of_four_samples(kernel, expected):
    """With π = β of unit deviation, BEAR's estimate is far above its ε = 0.05 on average."""
    x, y = normal(0, 20_000, 4, 3), normal(1, 20_000, 4, 3)
    penalty = root(mmd(x, y, kernel=kernel, scale=SIGMA_SCALE["bear"] * 20.0))
    assert penalty.mean() == pytest.approx(expected, rel=0.01)


@over_kernels
def test_sigma_means_different_things_in_bear_and_brac(kernel):
    x, y = jnp.zeros((1, 2)), jnp.array([[1.0, -2.0]])
    norm = {"laplacian": 3.0, "gaussian": 5.0}[kernel]
    bear, brac = (KERNELS[kernel](x, y, SIGMA_SCALE[code] * 1.5) for code in ("bear", "brac"))
    assert bear[0, 0] == pytest.approx(np.exp(-norm / 3.0))
    assert brac[0, 0] == pytest.approx(np.exp(-norm / 1.5))
    assert KERNELS[kernel](x, y, SIGMA_SCALE["brac"] * 3.0) == bear


def test_the_root_has_a_finite_slope_at_and_below_zero():
    squared = jnp.array([-0.5, 0.0, 0.04])
    np.testing.assert_allclose(root(squared), [1e-3, 1e-3, np.sqrt(0.04 + 1e-6)], rtol=1e-5)
    slope = jax.grad(lambda s: root(s).sum())(squared)
    assert np.isfinite(slope).all()
    assert slope[0] == 0 and slope[2] == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_the_unbiased_mmd_of_one_sample_is_refused(shape):
    x, y = (jnp.zeros((n, 2)) for n in shape)
    with pytest.raises(InputError, match="two samples"):
        mmd(x, y, kernel="gaussian", scale=1.0, unbiased=True)
    assert mmd(x, y + 1, kernel="gaussian", scale=1.0) > 0


# Closed forms


def test_gaussian_mmd_is_what_samples_estimate():
    noise = normal(0, 1000, 60, 3), normal(1, 1000, 50, 3)
    samples = [
        jnp.reshape(mean, (1, 1, 3)) + jnp.reshape(jnp.exp(log_std), (1, 1, 3)) * z
        for (mean, log_std), z in zip((PAIR[:2], PAIR[2:]), noise, strict=True)
    ]
    estimate = mmd(*samples, kernel="gaussian", scale=0.8, unbiased=True)
    exact = gaussian_mmd_squared(*PAIR, 0.8)
    assert standard_error(estimate) < 0.01 * exact
    assert abs(estimate.mean() - exact) < 4 * standard_error(estimate)


def test_gaussian_mmd_of_isotropic_gaussians():
    sigma, a, b, shift = 0.7, 0.3, 0.5, np.array([0.4, -0.1, 0.2])

    def kappa(v, w, delta):
        return (sigma / (sigma + v + w)) ** 1.5 * np.exp(-(delta @ delta) / (2 * (sigma + v + w)))

    by_hand = kappa(a, a, 0 * shift) + kappa(b, b, 0 * shift) - 2 * kappa(a, b, shift)
    ours = gaussian_mmd_squared(
        jnp.asarray(shift, jnp.float32)[None],
        jnp.full((1, 3), np.log(a) / 2),
        jnp.zeros((1, 3)),
        jnp.full((1, 3), np.log(b) / 2),
        SIGMA_SCALE["bear"] * sigma,
    )
    np.testing.assert_allclose(ours, [by_hand], rtol=1e-5)


def test_gaussian_kl_is_the_integral():
    p, q = stats.norm(0.3, 0.4), stats.norm(-0.2, 0.7)
    exact, _ = integrate.quad(lambda u: p.pdf(u) * (p.logpdf(u) - q.logpdf(u)), -6, 6)
    ours = gaussian_kl(*(jnp.full((2, 1), v) for v in (0.3, np.log(0.4), -0.2, np.log(0.7))))
    np.testing.assert_allclose(ours, [exact, exact], rtol=1e-5)
    three = gaussian_kl(*(jnp.full((3,), v) for v in (0.3, np.log(0.4), -0.2, np.log(0.7))))
    assert three == pytest.approx(3 * exact, rel=1e-5)
    assert gaussian_kl(*PAIR[:2], *PAIR[:2]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("pair", [PAIR, SWAPPED], ids=["forward", "reverse"])
def test_kl_from_samples_of_tanh_gaussians_is_the_gaussians(pair):
    n = 100_000
    mean_p, log_std_p, mean_q, log_std_q = (jnp.tile(v[None], (n, 1)) for v in pair)
    action, log_p = TanhGaussian(mean_p, log_std_p).sample_and_log_prob(KEY)
    log_q = TanhGaussian(mean_q, log_std_q).log_prob(action)
    estimate, exact = kl_from_samples(log_p, log_q), gaussian_kl(*pair)
    error = standard_error(log_p - log_q)
    assert error < 0.01 * exact
    assert abs(estimate - exact) < 4 * error
    assert abs(estimate - gaussian_kl(*pair[2:], *pair[:2])) > 20 * error


def test_wasserstein_of_shifted_point_masses_is_the_shift():
    shift, narrow = jnp.array([[3.0, -4.0]]), jnp.full((1, 2), -12.0)
    zero = jnp.zeros((1, 2))
    np.testing.assert_allclose(gaussian_wasserstein(shift, narrow, zero, narrow), [5.0], rtol=1e-6)


def test_gaussian_wasserstein_is_the_cost_of_matching_quantiles():
    level = (np.arange(200_000) + 0.5) / 200_000
    p, q = stats.norm(0.3, 0.4).ppf(level), stats.norm(-0.2, 0.9).ppf(level)
    each = np.sqrt(np.mean((p - q) ** 2))
    ours = gaussian_wasserstein(*(jnp.full((3,), v) for v in (0.3, np.log(0.4), -0.2, np.log(0.9))))
    assert ours == pytest.approx(np.sqrt(3) * each, rel=1e-3)


@pytest.mark.parametrize("closed_form", [gaussian_kl, gaussian_wasserstein])
def test_closed_forms_have_a_finite_slope_where_they_vanish(closed_form):
    gradient = jax.grad(closed_form, argnums=(0, 1))(*PAIR[:2], *PAIR[:2])
    np.testing.assert_allclose(jnp.stack(gradient), 0.0, atol=1e-5)


# Critics


def expected_dual(name, critic, p=P, q=Q):
    """E over a ~ π and b ~ β of the dual estimate, for distributions on a few points."""
    critic = jnp.asarray(critic, jnp.float32)
    size = len(critic)
    of_policy, of_behavior = jnp.tile(critic[:, None], (1, size)), jnp.tile(critic[None], (size, 1))
    return p @ np.asarray(dual_estimate(name, of_policy, of_behavior), np.float64) @ q


def divergence(name, p=P, q=Q):
    return q @ np.asarray(F_DIVERGENCES[name].generator(jnp.asarray(p / q)), np.float64)


@over_divergences
def test_generators_give_the_divergences_by_name(name):
    exact = {
        "kl": stats.entropy(P, Q),
        "chi_squared": ((P - Q) ** 2 / Q).sum(),
        "total_variation": np.abs(P - Q).sum() / 2,
        "jensen_shannon": distance.jensenshannon(P, Q) ** 2,
    }[name]
    assert divergence(name) == pytest.approx(exact, rel=1e-5)
    assert np.isfinite(F_DIVERGENCES[name].generator(jnp.zeros(1))).all()


@over_divergences
def test_the_best_critic_reaches_the_divergence_and_no_other_exceeds_it(name):
    best, exact = BEST_CRITIC[name](P / Q), divergence(name)
    assert expected_dual(name, best) == pytest.approx(exact, abs=2e-6)
    rng = np.random.default_rng(0)
    for critic in rng.normal(scale=2.0, size=(50, 5)):
        assert expected_dual(name, critic) < exact - 1e-3
    for k in range(5):
        nudged = best.copy()
        nudged[k] = 0.5 * best[k] if name != "total_variation" else 0.05 * best[k]
        assert expected_dual(name, nudged) < exact - 1e-4


@pytest.mark.parametrize(
    ("name", "most"), [("jensen_shannon", np.log(2)), ("total_variation", 1.0)]
)
def test_disjoint_distributions_are_as_far_apart_as_can_be(name, most):
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    best = np.array([50.0, 50.0, -50.0])
    assert expected_dual(name, best, p, q) == pytest.approx(most, rel=1e-6)
    assert expected_dual(name, -best, p, q) < 0


@over_divergences
def test_conjugates_are_the_largest_gap_between_line_and_generator(name):
    generator, witness, conjugate = F_DIVERGENCES[name]
    t = np.linspace(0, 20, 200_001, dtype=np.float32)
    values = np.asarray(generator(jnp.asarray(t)), np.float64)
    critic = jnp.array([-6.0, -3.0, -1.5, -0.3, 0.0, 0.4, 1.0, 2.0])
    largest = [(t * np.float64(slope) - values).max() for slope in witness(critic)]
    np.testing.assert_allclose(conjugate(critic), largest, atol=2e-5)


@over_divergences
def test_extreme_critics_give_finite_estimates_and_gradients(name):
    output = jnp.array([-100.0, 100.0])
    assert np.isfinite(dual_estimate(name, output, output)).all()
    gradients = jax.grad(lambda p, b: dual_estimate(name, p, b).sum(), (0, 1))(output, output)
    assert np.isfinite(jnp.stack(gradients)).all()


def test_a_lipschitz_critic_measures_the_shift_of_point_masses():
    np.testing.assert_allclose(
        dual_estimate("wasserstein", jnp.full(4, 0.3), jnp.full(4, -0.5)), 0.8, rtol=1e-6
    )


def test_unknown_names_fail():
    assert set(DUAL_DIVERGENCES) == {"wasserstein", *BEST_CRITIC}
    with pytest.raises(KeyError, match="renyi"):
        dual_estimate("renyi", jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(KeyError, match="cauchy"):
        mmd(jnp.zeros((2, 1)), jnp.ones((2, 1)), kernel="cauchy", scale=1.0)


# Gradient penalty


@jax.jit
def linear_penalty(weight):
    mix = jax.random.uniform(KEY, (6,))
    return gradient_penalty(lambda a: a @ weight, normal(0, 6, 3), normal(1, 6, 3), mix)


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.5, 3.0])
def test_only_slopes_above_one_are_penalised(slope):
    direction = jnp.array([2.0, -1.0, 2.0]) / 3
    penalty, gradient = jax.value_and_grad(lambda k: linear_penalty(k * direction))(slope)
    assert penalty == pytest.approx(max(slope - 1, 0) ** 2, abs=1e-6)
    assert gradient == pytest.approx(2 * max(slope - 1, 0), abs=1e-5)


def test_the_slope_is_taken_between_the_actions_row_by_row():
    """c(a) = ½‖a‖² has slope a, so the penalty shows where it was taken."""
    policy_action, behavior_action = 2 * normal(0, 6, 3), 3 * normal(1, 6, 3)
    mix = jnp.array([0.0, 1.0, 0.25, 0.5, 0.75, 0.9])
    ours = gradient_penalty(lambda a: 0.5 * (a**2).sum(-1), policy_action, behavior_action, mix)
    share = np.asarray(mix)[:, None]
    between = (1 - share) * policy_action + share * behavior_action
    expected = np.maximum(np.linalg.norm(between, axis=-1) - 1, 0) ** 2
    assert len(set(expected.tolist())) > 3
    assert ours == pytest.approx(expected.mean(), rel=1e-5)


def test_a_constant_critic_has_a_finite_gradient():
    np.testing.assert_array_equal(jax.grad(linear_penalty)(jnp.zeros(3)), 0.0)
