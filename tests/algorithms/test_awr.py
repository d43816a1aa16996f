"""AWR: relabelling against a loop in NumPy and when it happens, weights, both optimisers."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.awr import AWRConfig, advantage_weight
from offrl_jax.networks.heads import deterministic_policy, state_value
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from tests.algorithms.common.test_advantage_weighted import assert_equal, started
from tests.arrays import chain, random_dataset
from tests.networks.test_modules import numpy_mlp, numpy_policy

AWR = ALGORITHMS["awr"]
awr = importlib.import_module("offrl_jax.algorithms.awr")  # the package has the Algorithm there
KEY = jax.random.key(1)
NETWORK = MLP((8,))
DATASET = random_dataset(70)  # episodes of 20 cut, ended, cut, and 10 rows more
ROWS = jax.tree.map(lambda x: np.asarray(x, np.float64), DATASET.transitions)
EPISODE = np.asarray(DATASET.episode)
BATCH = jax.tree.map(lambda x: x[15:45], DATASET.transitions)
CONFIG = AWRConfig(
    discount=0.9,
    trace_decay=0.8,
    relabel_every=4,
    advantage_temperature=0.7,
    max_weight=3.0,
    action_std=0.6,
    # Large, so that parameters before a step and after it are told apart.
    actor_learning_rate=0.01,
    critic_learning_rate=0.05,
    actor_network=NETWORK,
    value_network=NETWORK,
    batch_size=8,
)


STATE = started(lambda: AWR.init(CONFIG, DATASET.spec, KEY))
VALUE = STATE.value.params
relabel = jax.jit(awr.relabel)


def numpy_value(params, observation):
    return numpy_mlp(params, np.asarray(observation, np.float64))[:, 0] / (1 - 0.9)


def numpy_returns(params, trace_decay, rows=ROWS):
    """TD(λ) returns, backwards through each episode, the last of which bootstraps or ends."""
    next_value = numpy_value(params, rows.next_observation)
    returns = np.zeros(70)
    for t in reversed(range(70)):
        last = t == 69 or EPISODE[t + 1] != EPISODE[t]
        future = next_value[t]
        if not last:
            future = (1 - trace_decay) * next_value[t] + trace_decay * returns[t + 1]
        returns[t] = rows.reward[t] + (0.0 if rows.terminal[t] else 0.9 * future)
    return returns


def at_step(step, state=STATE):
    return state._replace(step=jnp.int32(step))


def returns_of(dataset):
    return np.asarray(dataset.transitions.return_to_go)


@pytest.mark.parametrize("trace_decay", [0.0, 0.8, 1.0])
def test_returns_and_the_moments_of_advantages_are_those_of_the_value(trace_decay):
    config = dataclasses.replace(CONFIG, trace_decay=trace_decay)
    state, dataset = relabel(config, at_step(8), DATASET)
    returns = numpy_returns(VALUE, trace_decay)
    np.testing.assert_allclose(returns_of(dataset), returns, rtol=1e-4, atol=1e-3)
    advantage = returns - numpy_value(VALUE, ROWS.observation)
    assert float(state.advantage_mean) == pytest.approx(advantage.mean(), rel=1e-3, abs=1e-3)
    assert float(state.advantage_std) == pytest.approx(advantage.std(), rel=1e-3)
    assert_equal(state.labelling_value, VALUE)
    rest = dataset.transitions._replace(return_to_go=DATASET.transitions.return_to_go)
    assert_equal(rest, DATASET.transitions)


def test_without_trace_returns_are_of_one_step_and_with_it_all_of_the_episode():
    one_step = ROWS.reward + 0.9 * (1 - ROWS.terminal) * numpy_value(VALUE, ROWS.next_observation)
    whole = np.zeros(70)
    for episode in range(4):
        rows = np.flatnonzero(episode == EPISODE)
        last = rows[-1]
        bootstrap = one_step[last] - ROWS.reward[last]
        for t in rows:
            powers = 0.9 ** np.arange(last - t + 1)
            whole[t] = powers @ ROWS.reward[t : last + 1] + powers[-1] * bootstrap
    for trace_decay, expected in ((0.0, one_step), (1.0, whole)):
        config = dataclasses.replace(CONFIG, trace_decay=trace_decay)
        _, dataset = relabel(config, at_step(0), DATASET)
        np.testing.assert_allclose(returns_of(dataset), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_new_value_changes_no_return_between_two_relabellings(step):
    state = at_step(step)._replace(advantage_mean=jnp.float32(0.3), advantage_std=jnp.float32(2.5))
    after, dataset = relabel(CONFIG, state, DATASET)
    expected = numpy_returns(STATE.labelling_value, 0.8)
    np.testing.assert_allclose(returns_of(dataset), expected, rtol=1e-4, atol=1e-3)
    assert_equal(after, state)


@pytest.mark.parametrize("episode", range(4))
def test_no_return_leaks_into_another_episode(episode):
    """Rewards and next observations of one episode, cut or ended, are other ones."""
    own = episode == EPISODE
    _, plain = relabel(CONFIG, at_step(0), DATASET)
    rows = DATASET.transitions
    changed = rows._replace(
        reward=jnp.where(own, rows.reward + 10.0, rows.reward),
        next_observation=jnp.where(own[:, None], 0.0, rows.next_observation),
    )
    _, other = relabel(CONFIG, at_step(0), dataclasses.replace(DATASET, transitions=changed))
    difference = returns_of(other) != returns_of(plain)
    np.testing.assert_array_equal(difference, own)


@pytest.mark.parametrize("rows_at_once", [16, 70])
def test_the_size_of_the_pieces_of_the_data_does_not_matter(monkeypatch, rows_at_once):
    monkeypatch.setattr(awr, "ROWS_AT_ONCE", rows_at_once)
    _, dataset = jax.jit(lambda state: awr.relabel(CONFIG, state, DATASET))(at_step(0))
    expected = numpy_returns(VALUE, 0.8)
    np.testing.assert_allclose(returns_of(dataset), expected, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module", params=[(), (2,)], ids=["one run", "two seeds"])
def trained(request):
    """States by how many steps each call took, and how often the step was traced by then."""
    value_loss, traces = awr.value_loss, []

    def counted(*args):
        traces.append(args)
        return value_loss(*args)

    key = jax.random.split(KEY, request.param) if request.param else KEY
    states, counts = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(awr, "value_loss", counted)
        for lengths in ((), (4,), (8,), (2, 6), (3, 5), (4, 1)):
            state = init(AWR, CONFIG, DATASET.spec, key)
            for num_steps in lengths:
                state, _ = learn(AWR, CONFIG, DATASET, state, key, num_steps=num_steps)
            states[lengths], counts[lengths] = state, len(traces)
    return states, counts


def test_training_resumes_between_relabellings_bit_for_bit(trained):
    states, _ = trained
    assert_equal(states[2, 6], states[8,])
    assert (states[8,].step == 8).all() and (states[8,].advantage_std != 1.0).all()


def test_after_an_odd_number_of_steps_training_resumes_to_rounding(trained):
    states, _ = trained
    for resumed, whole in zip(*map(jax.tree.leaves, (states[3, 5], states[8,])), strict=True):
        np.testing.assert_allclose(resumed, whole, rtol=0, atol=1e-6)


def test_training_relabels_every_so_many_steps(trained):
    states, _ = trained
    assert_equal(states[4,].labelling_value, states[()].value.params)
    assert_equal(states[4, 1].labelling_value, states[4,].value.params)


def test_each_length_of_a_stretch_is_traced_once(trained):
    _, counts = trained
    # Of 4, of 2, and of 3 and 1.
    assert counts == {(): 0, (4,): 1, (8,): 1, (2, 6): 2, (3, 5): 4, (4, 1): 4}


@pytest.mark.parametrize("standardize", [True, False])
def test_weights_are_exponentials_of_the_advantage_standardised_if_asked(standardize):
    """Over the value that labelled the data, with the moments over the data, then clipped."""
    state = STATE._replace(advantage_mean=jnp.float32(-2.0), advantage_std=jnp.float32(4.0))
    advantage = 3 * np.random.default_rng(0).normal(size=30)
    returns = advantage + numpy_value(STATE.labelling_value, BATCH.observation)
    if standardize:
        advantage = (advantage + 2.0) / (4.0 + 1e-5)
    config = dataclasses.replace(CONFIG, standardize_advantage=standardize)
    batch = BATCH._replace(return_to_go=jnp.asarray(returns, jnp.float32))
    expected = np.exp(advantage / 0.7)
    assert 0 < (expected > 3).sum() < 30
    actual = jax.jit(advantage_weight)(config, state, batch)
    np.testing.assert_allclose(actual, np.minimum(expected, 3.0), rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_two_steps_equal_two_written_out(optimizer):
    """Value and actor from the same old parameters; two, as a first step has no momentum."""
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    state = started(lambda: AWR.init(config, DATASET.spec, KEY))
    state = state._replace(advantage_mean=jnp.float32(0.0), advantage_std=jnp.float32(4.0))
    returns = numpy_returns(STATE.labelling_value, 0.8)[15:45]
    batch = BATCH._replace(return_to_go=jnp.asarray(returns, jnp.float32))
    advantage = returns - numpy_value(STATE.labelling_value, BATCH.observation)
    weight = np.minimum(np.exp(advantage / 4.0 / 0.7), 3.0)

    def value_objective(value):
        error = jnp.asarray(returns * 0.1, jnp.float32) - state_value(
            NETWORK, value, batch.observation
        )
        return 0.5 * jnp.mean(error**2)

    def actor_objective(actor):
        error = (batch.action - deterministic_policy(NETWORK, actor, batch.observation)) / 0.6
        return jnp.mean(jnp.asarray(weight, jnp.float32) * 0.5 * jnp.sum(error**2, axis=1))

    expected = {}
    for name, objective, rate in (
        ("value", value_objective, 0.05),
        ("actor", actor_objective, 0.01),
    ):
        make = {"adam": optax.adam, "sgd": lambda rate: optax.sgd(rate, momentum=0.9)}[optimizer]
        expected[name] = two_steps(make(rate), objective, getattr(state, name).params)

    after, metrics = update(config, state, batch, KEY)
    error = (np.asarray(batch.action) - numpy_policy(state.actor.params, batch.observation)) / 0.6
    log_prob = np.sum(-0.5 * error**2 - np.log(0.6 * np.sqrt(2 * np.pi)), axis=1)
    assert float(metrics["actor/loss"]) == pytest.approx(-np.mean(weight * log_prob), rel=1e-3)
    assert float(metrics["value/loss"]) == pytest.approx(
        0.5 * np.mean((0.1 * (returns - numpy_value(state.value.params, batch.observation))) ** 2),
        rel=1e-3,
    )
    after, _ = update(config, after, batch, KEY)
    assert after.step == 2
    for name, (params, moments) in expected.items():
        assert_close(getattr(after, name), Trainable(params, moments))
    assert_equal(after.labelling_value, STATE.labelling_value)


update = jax.jit(AWR.update)


def two_steps(optimizer, objective, params):
    def step(carry, _):
        params, moments = carry
        change, moments = optimizer.update(jax.grad(objective)(params), moments)
        return (optax.apply_updates(params, change), moments), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=2)[0])(params)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), actual, expected
    )


def test_acting_has_a_fixed_deviation_about_the_tanh_mean():
    mean = numpy_policy(STATE.actor.params, BATCH.observation)
    act = jax.jit(AWR.act)
    np.testing.assert_allclose(act(CONFIG, STATE, BATCH.observation, None), mean, atol=1e-5)
    noise = np.asarray(jax.random.normal(KEY, (30, 1, 3)))[:, 0]
    drawn = act(CONFIG, STATE, BATCH.observation, KEY)
    np.testing.assert_allclose(drawn, np.clip(mean + 0.6 * noise, -1, 1), atol=1e-5)


def test_values_of_a_two_state_chain():
    """V(s₁) = 2 and V(s₀) = 1 + 2γ, which bootstrapping from λ = 0 needs several relabellings to
    carry over."""
    config = dataclasses.replace(
        CONFIG, trace_decay=0.0, relabel_every=150, critic_learning_rate=1e-2, batch_size=32
    )
    state = init(AWR, config, chain().spec, KEY)
    state, _ = learn(AWR, config, chain(), state, KEY, num_steps=600)
    np.testing.assert_allclose(
        jax.jit(AWR.value)(config, state, jnp.eye(2)), [1 + 0.9 * 2, 2.0], atol=0.05
    )
