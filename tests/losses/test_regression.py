import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from offrl_jax.losses.regression import (
    binary_weight,
    expectile_loss,
    exponential_loss,
    exponential_weight,
    gumbel_loss,
    lambda_returns,
    softmax_weight,
    sparse_loss,
    standardized,
    weighted_likelihood_loss,
)

UNCLIPPED = float("inf")
COIN = jnp.array([0.0, 1.0])
UNIFORM = (jnp.arange(2000) + 0.5) / 2000
Q = jnp.asarray(np.random.default_rng(0).normal(size=40), jnp.float32)
EXTREMES = jnp.array([-1e6, -100.0, 0.0, 100.0, 1e6])
returns_of = jax.jit(lambda_returns)
ADVANTAGE = jnp.array([-2.0, -0.3, 0.0, 0.4, 1.5])


def settles_at(loss, low=-2.0, high=3.0):
    """Where descent on loss(V) comes to rest, from both sides."""
    slope = jax.jit(jax.grad(loss))
    assert slope(low) < 0 < slope(high)
    return optimize.brentq(lambda v: float(slope(v)), low, high)


def wide(*arrays):
    return [np.asarray(x, np.float64) for x in arrays]


# Weights


def test_exponential_weights_are_clipped_exponentials():
    expected = np.minimum(np.exp(wide(ADVANTAGE)[0]), 3.0)
    assert (expected == 3.0).sum() == 1
    np.testing.assert_allclose(exponential_weight(ADVANTAGE, 3.0), expected, rtol=1e-6)
    traced = jax.vmap(lambda most: exponential_weight(ADVANTAGE, most))(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(traced, [np.minimum(expected, 1.0), expected], rtol=1e-6)


def test_extreme_advantages_have_finite_exponential_weights_and_slopes():
    weight = exponential_weight(EXTREMES, 20.0)
    np.testing.assert_allclose(weight, [0.0, np.exp(-100.0), 1.0, 20.0, 20.0], atol=1e-6, rtol=1e-5)
    slope = jax.grad(lambda z: exponential_weight(z, 20.0).sum())(EXTREMES)
    np.testing.assert_allclose(slope, [0.0, 0.0, 1.0, 0.0, 0.0], atol=1e-6)


def test_softmax_weights_are_exponentials_over_their_mean():
    exponential = np.exp(wide(ADVANTAGE)[0])
    weight = softmax_weight(ADVANTAGE)
    np.testing.assert_allclose(weight, exponential / exponential.mean(), rtol=1e-5)
    assert weight.mean() == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(softmax_weight(EXTREMES), [0, 0, 0, 0, 5], atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "invariant"),
    [
        (softmax_weight, True),
        (lambda z: exponential_weight(z, 1e9), False),
        (binary_weight, False),
    ],
    ids=["softmax", "exponential", "binary"],
)
def test_only_softmax_weights_forget_the_offset_of_the_advantages(weights, invariant):
    shifted = weights(ADVANTAGE + 1.0)
    assert np.allclose(shifted, weights(ADVANTAGE), rtol=1e-5) == invariant


def test_binary_weights_are_strict_at_zero():
    advantage = jnp.array([[-1.0, -0.0, 0.0], [1e-30, 2.0, -1e-30]])
    weight = binary_weight(advantage)
    np.testing.assert_array_equal(weight, [[0, 0, 0], [1, 1, 0]])
    assert weight.dtype == advantage.dtype


@pytest.mark.parametrize("std", [2.0, 0.0])
def test_standardized_advantages_are_guarded_against_a_deviation_of_zero(std):
    ours = standardized(ADVANTAGE, jnp.array(0.5), jnp.array(std))
    np.testing.assert_allclose(ours, (wide(ADVANTAGE)[0] - 0.5) / (std + 1e-5), rtol=1e-5)


# Weighted likelihood


def test_only_the_log_density_has_a_gradient():
    weight, log_prob = jnp.array([2.0, 0.0, 0.5]), jnp.array([-1.0, 3.0, 0.4])
    loss, (of_weight, of_log_prob) = jax.value_and_grad(weighted_likelihood_loss, (0, 1))(
        weight, log_prob
    )
    assert loss == pytest.approx(1.8 / 3, rel=1e-6)
    np.testing.assert_array_equal(of_weight, 0.0)
    np.testing.assert_allclose(of_log_prob, [-2 / 3, 0.0, -1 / 6], atol=1e-7)


COUNTS = np.array([[1, 2, 5], [4, 3, 1]])
TABLE = np.array([[0.5, -0.4, -0.2], [-0.6, 0.1, 0.9]])
STATE = np.repeat([0, 0, 0, 1, 1, 1], COUNTS.ravel())
CHOICE = np.repeat([0, 1, 2, 0, 1, 2], COUNTS.ravel())


def likelihood_loss(logits, weight):
    log_policy = jax.nn.log_softmax(logits, axis=1)
    return weighted_likelihood_loss(weight, log_policy[STATE, CHOICE])


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_table_ends_in_the_behavior_tilted_by_its_advantages(temperature):
    advantage = jnp.asarray(TABLE[STATE, CHOICE] / temperature, jnp.float32)
    slope = jax.grad(lambda x: likelihood_loss(x, exponential_weight(advantage, 1e9)))
    logits = jax.jit(
        lambda: jax.lax.fori_loop(0, 3000, lambda _, x: x - 0.5 * slope(x), jnp.zeros((2, 3)))
    )()
    tilted = COUNTS * np.exp(TABLE / temperature)
    expected = tilted / tilted.sum(1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(logits, axis=1), expected, atol=1e-4)
    assert np.abs(expected - COUNTS / COUNTS.sum(1, keepdims=True)).max() > 0.05


def test_a_batch_without_any_good_action_teaches_nothing():
    weight = binary_weight(jnp.full(len(STATE), -0.1))
    logits = jnp.array([[50.0, -80.0, 0.0], [0.3, 0.0, -1.0]])
    loss, slope = jax.value_and_grad(likelihood_loss)(logits, weight)
    assert loss == 0.0
    np.testing.assert_array_equal(slope, 0.0)


# Values by expectiles and exponentials


def test_expectile_loss_weighs_each_side():
    difference = jnp.array([-2.0, 0.0, 1.0, 3.0])
    loss, slope = jax.value_and_grad(expectile_loss)(difference, 0.7)
    assert loss == pytest.approx((0.3 * 4 + 0.7 * 1 + 0.7 * 9) / 4, rel=1e-6)
    np.testing.assert_allclose(slope, np.array([-1.2, 0.0, 1.4, 4.2]) / 4, rtol=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.7, 0.95])
def test_values_tend_to_the_expectile(tau):
    def of(q):
        return settles_at(lambda v: expectile_loss(q - v, tau))

    assert of(COIN) == pytest.approx(tau, abs=1e-5)
    exact = np.sqrt(tau) / (np.sqrt(tau) + np.sqrt(1 - tau))
    assert of(UNIFORM) == pytest.approx(exact, abs=1e-4)
    if tau == 0.5:
        assert of(Q) == pytest.approx(float(Q.mean()), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(
    "loss",
    [
        lambda v, temperature: gumbel_loss((Q - v) / temperature, UNCLIPPED),
        lambda v, temperature: exponential_loss(
            Q, jnp.full_like(Q, v), temperature, clip=UNCLIPPED
        ),
    ],
    ids=["gumbel", "exponential"],
)
def test_unclipped_values_tend_to_the_soft_maximum(loss, temperature):
    soft = temperature * np.log(np.exp(wide(Q)[0] / temperature).mean())
    assert settles_at(lambda v: loss(v, temperature)) == pytest.approx(soft, abs=1e-4)


SHIFTS = {"all below −1": -6.0, "mixed": 0.0, "the largest clipped": 4.0, "all clipped": 20.0}
over_shifts = pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)


def clipped(z, clip):
    z = np.minimum(z, clip)
    return z, max(z.max(), -1.0), z < clip


def test_the_shifts_are_what_they_say():
    q = wide(Q)[0]
    assert q.max() + SHIFTS["all below −1"] < -1 < q.max() < 5
    assert q.min() + SHIFTS["the largest clipped"] < 5 < q.max() + SHIFTS["the largest clipped"]
    assert q.min() + SHIFTS["all clipped"] > 5


@over_shifts
def test_gumbel_loss_is_clipped_and_rescaled(shift):
    loss, slope = jax.value_and_grad(gumbel_loss)(Q + shift, 5.0)
    z, most, free = clipped(wide(Q + shift)[0], 5.0)
    assert loss == pytest.approx(np.mean((np.exp(z) - z - 1) * np.exp(-most)), rel=1e-4)
    expected = free * (np.exp(z) - 1) * np.exp(-most) / len(z)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(slope[~free], 0.0)


@over_shifts
def test_exponential_loss_is_clipped_and_rescaled(shift):
    q, value, temperature = 2 * (Q + shift) + Q[::-1], Q[::-1], 2.0
    loss, (of_q, of_value) = jax.value_and_grad(exponential_loss, (0, 1))(
        q, value, temperature, 5.0
    )
    q, value = wide(q, value)
    z, most, free = clipped((q - value) / temperature, 5.0)
    each = (np.exp(z) + value / temperature) * np.exp(-most)
    assert loss == pytest.approx(each.mean(), rel=1e-4)
    rise = free * np.exp(z - most) / temperature / len(z)
    np.testing.assert_allclose(of_q, rise, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        of_value, np.exp(-most) / temperature / len(z) - rise, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("clip", [7.0, UNCLIPPED])
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_extreme_differences_have_finite_losses_and_slopes(clip, scale):
    z = EXTREMES * scale
    for loss in (gumbel_loss, lambda z, c: exponential_loss(z, jnp.zeros_like(z), 1.0, c)):
        value, slope = jax.value_and_grad(loss)(z, clip)
        assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.25, 0.3, 1.0])
def test_sparse_values_leave_bad_actions_out_at_low_temperatures(temperature):
    value = settles_at(lambda v: sparse_loss(COIN, jnp.full_like(COIN, v), temperature))
    exact = 0.5 if temperature >= 0.25 else 1 - 2 * temperature
    assert value == pytest.approx(exact, abs=1e-5)


def test_sparse_loss_drops_actions_below_the_value_by_twice_the_temperature():
    q, value = jnp.array([1.0, -0.5, -3.0]), jnp.array([0.5, 0.5, 0.5])
    loss, (of_q, of_value) = jax.value_and_grad(sparse_loss, (0, 1))(q, value, 1.0)
    t = np.array([1.25, 0.5, 0.0])  # the third is 1 − 3.5 / 2 < 0
    assert loss == pytest.approx((t**2).mean() + 0.5, rel=1e-6)
    np.testing.assert_allclose(of_q, t / 3, rtol=1e-6)
    np.testing.assert_allclose(of_value, (1 - t) / 3, rtol=1e-6, atol=1e-7)


# TD(λ) returns

LENGTHS = (4, 1, 6, 1, 3, 5)
TRUE_END = (True, False, False, True, True, False)
DISCOUNT = 0.9


def episodes(lengths=LENGTHS, true_end=TRUE_END, seed=0):
    """Reward, terminal, next value and whether the episode goes on, of rows in time order."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    last = np.cumsum(lengths) - 1
    terminal, continues = np.zeros(rows), np.ones(rows)
    terminal[last], continues[last] = true_end, 0.0
    arrays = rng.normal(size=rows), terminal, 3 + rng.normal(size=rows), continues
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def backwards_loop(reward, terminal, next_value, continues, discount, trace_decay):
    reward, terminal, next_value, continues = wide(reward, terminal, next_value, continues)
    returns = np.zeros(len(reward))
    for t in reversed(range(len(reward))):
        future = next_value[t]
        if continues[t]:
            future = (1 - trace_decay) * next_value[t] + trace_decay * returns[t + 1]
        returns[t] = reward[t] + (0.0 if terminal[t] else discount * future)
    return returns


@pytest.mark.parametrize("trace_decay", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(
    ("lengths", "true_end"),
    [(LENGTHS, TRUE_END), ((700, 1, 300), (False, True, False))],
    ids=["short", "long"],
)
def test_returns_agree_with_a_backwards_loop(lengths, true_end, trace_decay):
    rows = episodes(lengths, true_end)
    np.testing.assert_allclose(
        returns_of(*rows, 0.99, trace_decay),
        backwards_loop(*rows, 0.99, trace_decay),
        rtol=1e-4,
        atol=1e-4,
    )


def test_without_a_trace_returns_look_one_step_ahead():
    reward, terminal, next_value, _ = rows = episodes()
    expected = reward + DISCOUNT * (1 - terminal) * next_value
    np.testing.assert_allclose(returns_of(*rows, DISCOUNT, 0.0), expected, rtol=1e-5)


def test_with_a_full_trace_returns_are_discounted_sums_that_only_cuts_bootstrap():
    rows = episodes()
    returns, (reward, _, next_value, _) = returns_of(*rows, DISCOUNT, 1.0), wide(*rows)
    first = 0
    for length, true_end in zip(LENGTHS, TRUE_END, strict=True):
        power = DISCOUNT ** np.arange(length)
        end = 0.0 if true_end else DISCOUNT**length * next_value[first + length - 1]
        expected = power @ reward[first : first + length] + end
        assert returns[first] == pytest.approx(expected, rel=1e-5)
        first += length


@pytest.mark.parametrize("trace_decay", [0.5, 1.0])
def test_episodes_never_leak_into_each_other(trace_decay):
    reward, terminal, next_value, continues = episodes()
    before = returns_of(reward, terminal, next_value, continues, DISCOUNT, trace_decay)
    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    for episode in range(len(LENGTHS)):
        others = jnp.asarray(owner != episode, jnp.float32)
        after = returns_of(
            reward + 1e3 * others,
            terminal,
            next_value - 7e3 * others,
            continues,
            DISCOUNT,
            trace_decay,
        )
        changed = np.asarray(after != before)
        np.testing.assert_array_equal(changed, owner != episode)


@pytest.mark.parametrize("trace_decay", [0.0, 0.5, 1.0])
def test_a_terminal_stops_the_return_even_where_rows_go_on(trace_decay):
    reward = jnp.array([1.0, 2.0, 4.0])
    returns = returns_of(
        reward,
        jnp.array([0.0, 1.0, 0.0]),
        jnp.array([10.0, 20.0, 30.0]),
        jnp.array([1.0, 1.0, 0.0]),
        0.5,
        trace_decay,
    )
    first = 1 + 0.5 * ((1 - trace_decay) * 10 + trace_decay * 2)
    np.testing.assert_allclose(returns, [first, 2.0, 4 + 0.5 * 30], rtol=1e-6)


def test_returns_compile_and_batch_over_settings_and_rows():
    sets = [episodes(seed=seed) for seed in (0, 1)]
    discounts, traces = jnp.array([0.9, 0.5]), jnp.array([0.3, 1.0])
    stacked = [jnp.stack(x) for x in zip(*sets, strict=True)]
    ours = jax.jit(jax.vmap(lambda_returns))(*stacked, discounts, traces)
    expected = [
        backwards_loop(*rows, discount, trace)
        for rows, discount, trace in zip(sets, (0.9, 0.5), (0.3, 1.0), strict=True)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
