import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from offrl_jax.losses.mpo import improved_weights, improvement_kl, temperature_dual

NUM_ACTIONS = 8
# Five states whose values lie at different heights and spread differently
Q = np.random.default_rng(0).normal(size=(5, NUM_ACTIONS)) * [[0.3], [1.0], [2.0], [1.5], [0.7]]
Q += [[0.0], [-3.0], [10.0], [1.0], [5.0]]
over_temperatures = pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
over_constraints = pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0])
over_states = pytest.mark.parametrize("q", [Q, Q[:1], Q[2:4]], ids=["five", "one", "two"])


def typed(x):
    return jnp.asarray(x, jnp.float32)


def numpy_dual(q, temperature, epsilon):
    log_mean = special.logsumexp(q / temperature, axis=1, b=1 / NUM_ACTIONS)
    return temperature * (epsilon + log_mean.mean())


def best_temperature(q, epsilon):
    found = optimize.minimize_scalar(
        lambda x: numpy_dual(q, np.exp(x), epsilon),
        bounds=(-6, 6),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(found.x))


@over_temperatures
def test_weights_are_a_softmax_over_the_actions_of_each_state(temperature):
    weight = improved_weights(typed(Q), temperature)
    np.testing.assert_allclose(weight, special.softmax(Q / temperature, axis=1), atol=1e-4)
    np.testing.assert_allclose(weight.sum(1), 1.0, rtol=1e-5)


@over_temperatures
def test_the_dual_agrees_with_numpy(temperature):
    ours = temperature_dual(typed(Q), temperature, 0.3)
    assert ours == pytest.approx(numpy_dual(Q, temperature, 0.3), rel=1e-5)
    shifted = temperature_dual(typed(Q + 2.0), temperature, 0.3)
    assert shifted == pytest.approx(float(ours) + 2.0, rel=1e-5)


@over_states
@over_constraints
def test_the_best_temperature_meets_the_constraint(q, epsilon):
    weight = improved_weights(typed(q), best_temperature(q, epsilon))
    assert improvement_kl(weight) == pytest.approx(epsilon, rel=2e-3)


@over_states
@over_constraints
def test_the_dual_falls_to_its_best_temperature_and_rises_after_it(q, epsilon):
    """Its slope is ε − KL(q‖p) everywhere."""
    best = best_temperature(q, epsilon)
    slope = jax.grad(temperature_dual, argnums=1)
    for factor, sign in ((0.2, -1), (0.8, -1), (1.25, 1), (5.0, 1)):
        temperature = factor * best
        ours = slope(typed(q), temperature, epsilon)
        assert np.sign(ours) == sign
        gap = epsilon - improvement_kl(improved_weights(typed(q), temperature))
        assert ours == pytest.approx(float(gap), abs=1e-4)


def test_kl_of_even_weights_is_zero_and_of_one_action_the_log_of_their_number():
    assert improvement_kl(jnp.full((3, 8), 1 / 8)) == pytest.approx(0.0, abs=1e-6)
    assert improvement_kl(jnp.eye(8)) == pytest.approx(np.log(8), rel=1e-6)
    assert np.isfinite(jax.grad(improvement_kl)(jnp.eye(8))).all()


def test_kl_is_a_mean_over_states():
    weight = np.random.default_rng(1).dirichlet(np.ones(4), size=3)
    exact = (weight * np.log(weight / 0.25)).sum(1).mean()
    assert improvement_kl(typed(weight)) == pytest.approx(exact, rel=1e-5)


def test_extreme_values_have_finite_weights_and_duals():
    q = jnp.array([[-1e6, 0.0, 1e6], [1e6, 1e6, 1e6]])
    weight = improved_weights(q, 0.1)
    np.testing.assert_allclose(weight, [[0, 0, 1], [1 / 3] * 3], atol=1e-6)
    assert improvement_kl(weight) == pytest.approx(np.log(3) / 2, rel=1e-5)
    value, slope = jax.value_and_grad(temperature_dual, argnums=1)(q, 0.1, 0.3)
    assert np.isfinite(value) and np.isfinite(slope)
