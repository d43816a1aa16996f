import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax.networks.optimizers import OPTIMIZERS, Trainable, cosine_rate

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": {"c": jnp.array(0.5)}}


def gradients(num_steps=6):
    rng = np.random.default_rng(0)
    return [
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), PARAMS)
        for _ in range(num_steps)
    ]


def run_steps(name, rates):
    """Parameters after each step; the rate may change from step to step."""
    trainable, path = Trainable.create(PARAMS, name), []
    for rate, gradient in zip(rates, gradients(), strict=True):
        trainable = trainable.step(gradient, rate, name)
        path.append(trainable.params)
    return path


def assert_close(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 1.0),
        (250, (1 + np.sqrt(0.5)) / 2),
        (500, 0.5),
        (750, (1 - np.sqrt(0.5)) / 2),
        (1000, 0.0),
        (1500, 0.0),
        (2000, 0.0),
    ],
)
def test_the_rate_falls_along_half_a_cosine_and_stays_down(step, share):
    rate = cosine_rate(0.3, jnp.array(step), 1000)
    assert rate == pytest.approx(0.3 * share, abs=1e-6)


@pytest.mark.parametrize("step", [0, 10, 10**6])
def test_without_a_number_of_steps_the_rate_is_constant(step):
    assert cosine_rate(0.3, jnp.array(step), 0) == 0.3


def test_rates_and_steps_may_be_traced():
    rates, steps = jnp.array([0.1, 0.4]), jnp.array([0, 5])
    traced = jax.jit(jax.vmap(lambda r, s: cosine_rate(r, s, 10)))(rates, steps)
    np.testing.assert_allclose(traced, [0.1, 0.2], rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_optax_at_a_rate_that_changes(name):
    """A rate enters no state, so Optax by hand may take another one at every step."""
    make = {"adam": optax.adam, "sgd": lambda rate: optax.sgd(rate, momentum=0.9)}[name]
    rates = [0.1, 0.1, 0.3, 0.0, 0.02, 0.1]
    params, state = PARAMS, make(rates[0]).init(PARAMS)
    for rate, gradient, ours in zip(rates, gradients(), run_steps(name, rates), strict=True):
        updates, state = make(rate).update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        assert_close(ours, params)


def test_adam_is_that_of_the_paper():
    """x ← x − rate · m̂ / (√v̂ + ε), m and v moving averages of g and g², divided by 1 − βᵗ."""
    params, first, second = (
        jax.tree.map(lambda x, k=k: k * np.asarray(x, np.float64), PARAMS) for k in (1, 0, 0)
    )
    path = run_steps("adam", [0.05] * 6)
    for t, gradient, ours in zip(range(1, 7), gradients(), path, strict=True):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * np.asarray(g), first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * np.asarray(g) ** 2, second, gradient)
        params = jax.tree.map(
            lambda x, m, v, t=t: x - 0.05 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8),
            *(params, first, second),
        )
        assert_close(ours, params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_minimizing_is_the_gradient_and_a_step(name):
    def loss(params):
        return jnp.sum(jnp.square(params["w"])) * params["b"]["c"], {"sum": jnp.sum(params["w"])}

    one = Trainable.create(PARAMS, name).step(gradients()[0], 0.1, name)
    minimized, auxiliary = one.minimize(loss, 0.2, name)
    w, c = np.asarray(one.params["w"]), float(one.params["b"]["c"])
    gradient = {"w": jnp.asarray(2 * w * c), "b": {"c": jnp.sum(jnp.square(w))}}
    assert_close(minimized, one.step(gradient, 0.2, name))
    assert auxiliary["sum"] == pytest.approx(w.sum())


def test_sgd_has_a_momentum_that_the_rate_does_not_enter():
    rates = [0.1, 0.1, 0.3, 0.0, 0.2, 0.1]
    params, momentum = (
        jax.tree.map(lambda x, k=k: k * np.asarray(x, np.float64), PARAMS) for k in (1, 0)
    )
    for rate, gradient, ours in zip(rates, gradients(), run_steps("sgd", rates), strict=True):
        momentum = jax.tree.map(lambda m, g: 0.9 * m + np.asarray(g), momentum, gradient)
        params = jax.tree.map(lambda p, m, rate=rate: p - rate * m, params, momentum)
        assert_close(ours, params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sweep_of_rates_equals_one_by_one(name):
    rates = jnp.array([0.01, 0.1, 0.5])
    together = jax.jit(jax.vmap(lambda rate: run_steps(name, [rate] * 6)[-1]))(rates)
    for i, rate in enumerate((0.01, 0.1, 0.5)):
        alone = run_steps(name, [rate] * 6)[-1]
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_unknown_optimizers_fail():
    assert set(OPTIMIZERS) == {"adam", "sgd"}
    with pytest.raises(KeyError, match="lion"):
        Trainable.create(PARAMS, "lion")
    with pytest.raises(KeyError, match="lion"):
        Trainable.create(PARAMS).step(PARAMS, 0.1, "lion")
