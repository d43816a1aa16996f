"""What the learner, the rollouts and the command line rely on, for every registered algorithm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import init, learn, testing
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.runs import lost_seeds
from offrl_jax.runs.train import train
from offrl_jax.testing import NUM_SEEDS, NUM_STEPS, TOLERANCE
from tests.contract.conftest import CASES
from tests.toy import toy_dataset
from tests.traces import COMPILED

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES, indirect=True)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def started(algorithm, config, dataset, key):
    return init(algorithm, config, dataset.spec, key)


def trained(algorithm, config, dataset, key, num_steps=NUM_STEPS):
    state = started(algorithm, config, dataset, key)
    return learn(algorithm, config, dataset, state, key, num_steps=num_steps)


@pytest.fixture(scope="module")
def first_run(algorithm, config, dataset, traces):
    """The state of one run, and every update as often as it was traced for it."""
    traces.clear()
    state, _ = trained(algorithm, config, dataset, jax.random.key(7))
    return state, tuple(traces)


@every_case
def test_it_has_a_citation_and_valid_defaults_and_every_field_explains_itself(algorithm):
    assert algorithm.citation
    testing.check_config(algorithm)


def test_updates_keep_the_states_shapes_and_types(algorithm, config, dataset):
    testing.check_update(algorithm, config, dataset)


def test_updates_are_finite_and_counted(algorithm, config, dataset, first_run):
    testing.check_training(algorithm, config, dataset)


def test_every_parameter_learns(algorithm, config, dataset, key, first_run):
    before = started(algorithm, config, dataset, key)
    moved = {
        jax.tree_util.keystr(path): bool(np.any(np.asarray(a) != np.asarray(b)))
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(first_run[0]), strict=True
        )
    }
    if algorithm.name == "qt_opt":
        assert not moved.pop(".start")  # no parameter, but where each search starts
    assert all(moved.values()), moved


def test_chunks_equal_the_whole_bit_for_bit(algorithm, config, dataset):
    testing.check_chunks(algorithm, config, dataset)


def test_seeds_in_one_dispatch_equal_separate_runs_and_differ(algorithm, config, dataset):
    testing.check_seeds(algorithm, config, dataset)


def test_every_float_setting_can_be_swept(algorithm, config, dataset):
    testing.check_settings(algorithm, config, dataset)


def test_one_trace_of_each_update_serves_a_run_and_other_float_settings(
    algorithm, config, dataset, traces, first_run
):
    at_first = first_run[-1]
    phases = phases_of(ALGORITHMS[algorithm.name], config)
    assert set(at_first) == {update for phase in phases for update in phase.updates}
    # The second phase starts midway, so its updates are traced for one step, and below for two.
    assert len(set(at_first)) == len(at_first)
    testing.check_traces(algorithm, config, dataset, traces)


def test_nothing_compiles_after_a_runs_first_evaluation(algorithm, config, dataset, tmp_path):
    """A chunk of the last phase with its diagnostics, checkpoint and evaluation has compiled all
    that those after it need."""
    counts = []  # of programs compiled, at every evaluation
    train(
        algorithm._replace(name="counted"),  # its updates are not the library's
        config,
        toy_dataset(discrete=dataset.spec.discrete),
        run_dir=tmp_path / "run",
        num_steps=3 * NUM_STEPS,
        num_seeds=NUM_SEEDS,
        num_evaluations=3,
        num_evaluation_episodes=1,
        log=lambda row: counts.append(len(COMPILED)) if "episode_returns" in row else None,
    )
    first, *later = counts
    assert first > 0 and later == [first, first]


def test_the_state_is_donated(algorithm, config, dataset):
    testing.check_donation(algorithm, config, dataset)


def test_actions_are_in_bounds_and_the_mode_needs_no_key(algorithm, config, dataset):
    testing.check_act(algorithm, config, dataset)


def test_values_are_one_number_an_observation_and_of_several_actions_those_of_each(
    algorithm, config, dataset
):
    testing.check_values(algorithm, config, dataset)


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
