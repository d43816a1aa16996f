"""What the learner, the rollouts and the command line rely on, for every registered algorithm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import init, learn, stack
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.config import validate
from offrl_jax.data import sample
from offrl_jax.runs import lost_seeds
from offrl_jax.runs.train import train
from tests.contract.conftest import CASES
from tests.toy import toy_dataset
from tests.traces import COMPILED, TRACES, counting

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES, indirect=True)
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # a batched product sums in another order


def one(tree, index):
    """One run of a batch of runs."""
    return jax.tree.map(lambda x: np.asarray(x)[index], tree)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), actual, expected)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def started(algorithm, config, dataset, key):
    return init(algorithm, config, dataset.spec, key)


# Every test trains for as many steps and seeds, so that they share their compiled programs.
NUM_STEPS, NUM_SEEDS = 2, 2


def trained(algorithm, config, dataset, key, num_steps=NUM_STEPS):
    state = started(algorithm, config, dataset, key)
    return learn(algorithm, config, dataset, state, key, num_steps=num_steps)


@pytest.fixture(scope="module")
def first_run(algorithm, config, dataset):
    """The state and metrics of one run, and every update as often as it was traced for it."""
    TRACES.clear()
    state, metrics = trained(algorithm, config, dataset, jax.random.key(7))
    return state, metrics, tuple(TRACES)


@every_case
def test_registered_under_its_own_name(algorithm):
    assert ALGORITHMS[algorithm.name].update is algorithm.update
    assert algorithm.citation


@every_case
def test_defaults_are_valid_and_every_field_explains_itself(algorithm):
    validate(algorithm.Config())
    for field in dataclasses.fields(algorithm.Config):
        assert field.metadata["help"], field.name


@every_case
def test_update_keeps_the_states_shapes_and_types(algorithm, config, dataset, key):
    state = started(algorithm, config, dataset, key)

    def update(state):
        return algorithm.update(config, state, sample(dataset, key, config.batch_size), key)

    after, metrics = jax.eval_shape(update, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, after, state)
    assert all(jax.tree.leaves(same))
    assert all(metric.shape == () for metric in metrics.values())
    assert any(name.endswith("/loss") for name in metrics)
    assert all("/" in name for name in metrics)


def test_updates_are_finite_and_counted(first_run):
    state, metrics, _ = first_run
    assert state.step == NUM_STEPS
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))


def test_every_parameter_learns(algorithm, config, dataset, key, first_run):
    before = started(algorithm, config, dataset, key)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), before, first_run[0]
    )
    assert all(jax.tree.leaves(moved)), moved


def test_chunks_equal_the_whole_bit_for_bit(algorithm, config, dataset, key):
    state = started(algorithm, config, dataset, key)
    for _ in range(2):
        state, _ = learn(algorithm, config, dataset, state, key, num_steps=NUM_STEPS)
    whole, _ = trained(algorithm, config, dataset, key, num_steps=2 * NUM_STEPS)
    assert_equal(state, whole)


def test_seeds_in_one_dispatch_equal_separate_runs(algorithm, config, dataset, key):
    keys = jax.random.split(key, NUM_SEEDS)
    together, metrics = trained(algorithm, config, dataset, keys)
    for i in range(NUM_SEEDS):
        alone, lone_metrics = trained(algorithm, config, dataset, keys[i])
        assert_close(one(together, i), alone)
        assert_close(one(metrics, i), lone_metrics)


def test_seeds_differ(algorithm, config, dataset, key):
    _, metrics = trained(algorithm, config, dataset, jax.random.split(key, NUM_SEEDS))
    loss = next(v for k, v in metrics.items() if k.endswith("/loss"))
    assert loss[0] != loss[1]


def test_every_float_setting_can_be_swept(algorithm, config, dataset, key):
    floats = [f.name for f in dataclasses.fields(config) if f.type is float]
    changed = dataclasses.replace(config, **{name: 0.9 * getattr(config, name) for name in floats})
    keys = jax.random.split(key, (2, NUM_SEEDS))
    together, _ = trained(algorithm, stack([config, changed]), dataset, keys)
    for h, setting in enumerate((config, changed)):
        alone, _ = trained(algorithm, setting, dataset, keys[h])
        assert_close(one(together, h), alone)


def test_one_trace_of_each_update_serves_a_run_and_other_float_settings(
    algorithm, config, dataset, key, first_run
):
    traces = first_run[-1]
    assert set(map(counting, traces)) == {
        u for p in phases_of(algorithm, config) for u in p.updates
    }
    # The second phase starts midway, so its updates are traced for one step, and below for two.
    assert len(set(traces)) == len(traces)
    floats = [f.name for f in dataclasses.fields(config) if f.type is float]
    for factor in (1.0, 0.9, 0.8):
        setting = dataclasses.replace(config, **{n: factor * getattr(config, n) for n in floats})
        state = started(algorithm, setting, dataset, key)
        for _ in range(2):
            state, _ = learn(algorithm, setting, dataset, state, key, num_steps=NUM_STEPS)
        if factor == 1.0:
            TRACES.clear()
    assert not TRACES


def test_nothing_compiles_after_a_runs_first_evaluation(algorithm, config, dataset, tmp_path):
    """A chunk of the last phase with its diagnostics, checkpoint and evaluation has compiled all
    that those after it need."""
    counts = []  # of programs compiled, at every evaluation
    train(
        *(algorithm, config, toy_dataset(discrete=dataset.spec.discrete)),
        run_dir=tmp_path / "run",
        num_steps=3 * NUM_STEPS,
        num_seeds=NUM_SEEDS,
        num_evaluations=3,
        num_evaluation_episodes=1,
        log=lambda row: counts.append(len(COMPILED)) if "episode_returns" in row else None,
    )
    first, *later = counts
    assert first > 0 and later == [first, first]


def test_the_state_is_donated(algorithm, config, dataset, key):
    state = started(algorithm, config, dataset, key)
    learn(algorithm, config, dataset, state, key, num_steps=NUM_STEPS)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_actions_are_in_bounds_and_the_mode_needs_no_key(algorithm, config, dataset, key):
    state = started(algorithm, config, dataset, key)
    observation = 100 * jax.random.normal(key, (6, dataset.spec.observation_size))
    act = jax.jit(algorithm.act)
    for act_key in (None, key):
        action = act(config, state, observation, act_key)
        assert action.shape == (6, dataset.spec.action_size)
        assert (np.abs(action) <= 1).all()
        if dataset.spec.discrete:
            np.testing.assert_array_equal(np.sort(action, axis=1), [[0, 0, 1]] * 6)
    assert_equal(*(act(config, state, observation, None) for _ in range(2)))


@every_case
def test_values_are_one_number_an_observation(algorithm, config, dataset, key):
    if algorithm.value is None:
        pytest.skip("has no critic")
    state = started(algorithm, config, dataset, key)
    observation = jax.random.normal(key, (6, dataset.spec.observation_size))
    assert jax.eval_shape(algorithm.value, config, state, observation).shape == (6,)


def test_the_value_is_the_least_q_of_the_action_taken(algorithm, config, dataset, key):
    if algorithm.q_values is None:
        pytest.skip("has no critic of actions")
    state = started(algorithm, config, dataset, key)
    observation = jax.random.normal(key, (6, dataset.spec.observation_size))

    @jax.jit
    def values(state):
        action = algorithm.act(config, state, observation, None)
        random = jax.random.uniform(key, action.shape, minval=-1)
        q, q_random = (algorithm.q_values(config, state, observation, a) for a in (action, random))
        return q, q_random, algorithm.value(config, state, observation)

    q, q_random, value = values(state)
    size = q.shape[0]
    assert q.shape == (size, 6) and size == getattr(config, "num_critics", size)
    assert np.isfinite(q).all() and np.any(q_random != q)
    np.testing.assert_allclose(np.min(q, axis=0), value, **TOLERANCE)


def test_q_of_several_actions_is_that_of_each(algorithm, config, dataset, key):
    if algorithm.q_values is None:
        pytest.skip("has no critic of actions")
    state = started(algorithm, config, dataset, key)
    observation = jax.random.normal(key, (6, dataset.spec.observation_size))
    action = jax.random.uniform(key, (6, 4, dataset.spec.action_size), minval=-1)
    q_values = jax.jit(algorithm.q_values)
    several = q_values(config, state, observation, action)
    each = [q_values(config, state, observation, action[:, j]) for j in range(4)]
    np.testing.assert_allclose(several, np.stack(each, axis=-1), **TOLERANCE)


def test_target_networks_follow_only_by_averaging(algorithm, config, dataset, key):
    """A frozen target stays put, whatever the gradients do."""

    def targets(state):
        leaves = jax.tree_util.tree_leaves_with_path(state)
        return {
            jax.tree_util.keystr(p): x for p, x in leaves if "target_" in jax.tree_util.keystr(p)
        }

    state = started(algorithm, config, dataset, key)
    if not targets(state):
        pytest.skip("has no target network")
    frozen = dataclasses.replace(config, target_update_rate=0.0)
    kept = jax.tree.map(jnp.copy, state)
    after, _ = learn(algorithm, frozen, dataset, state, key, num_steps=NUM_STEPS)
    assert_equal(targets(after), targets(kept))


def test_a_lost_seed_is_frozen_while_its_steps_count_on(algorithm, config, dataset, key):
    keys = jax.random.split(key, 2)
    old = init(algorithm, config, dataset.spec, keys)
    new = jax.tree.map(lambda x: x + 1, old)
    frozen = lost_seeds.freeze(jnp.array([True, False]), jax.tree.map(jnp.copy, new), old)
    assert frozen.step.tolist() == new.step.tolist()
    for ours, before, after in zip(*map(jax.tree.leaves, (frozen, old, new)), strict=True):
        np.testing.assert_array_equal(ours[1], after[1])
        if after is not new.step:
            np.testing.assert_array_equal(ours[0], before[0])
