import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, environments
from offrl_jax.data import normalize_observations
from offrl_jax.evaluation.rollouts import to_environment
from offrl_jax.runs.policy import load_policy
from offrl_jax.types import InputError
from tests.few import STRUCTURES, few
from tests.policies import is_discrete, saved
from tests.toy import toy_dataset


@pytest.fixture
def dataset():
    return normalize_observations(toy_dataset())


@pytest.mark.parametrize("name", few(list(ALGORITHMS), STRUCTURES))
def test_a_loaded_policy_acts_as_the_trained_one(tmp_path, name):
    dataset = normalize_observations(toy_dataset(discrete=is_discrete(name)))
    algorithm, config, state = saved(tmp_path, dataset, name)
    observation = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    act = jax.jit(algorithm.act)
    for seed_index in (0, 2):
        policy = load_policy(tmp_path, seed_index)
        one = jax.tree.map(lambda x, i=seed_index: x[i], state)
        normalised = dataset.preprocessing.normalize(jnp.asarray(observation))
        expected = to_environment(np.asarray(act(config, one, normalised, None)), dataset.spec)
        np.testing.assert_allclose(policy(observation), expected, atol=1e-5)
    np.testing.assert_allclose(policy(observation[0]), expected[0], atol=1e-5)


def test_weights_hold_only_what_acting_reads(tmp_path, dataset):
    saved(tmp_path, dataset, "cql")
    names = set(np.load(tmp_path / "policy" / "weights.npz").files)
    assert names == {
        *dataset.preprocessing._fields,
        *(
            f"agent/actor/params/{layer}/{part}"
            for layer in ("network/Dense_0", "head")
            for part in ("kernel", "bias")
        ),
    }


def test_dict_observations_are_flattened_as_in_training(tmp_path):
    dataset = toy_dataset(observation_keys=("b", "a"))
    saved(tmp_path, dataset, "bc")
    policy = load_policy(tmp_path)
    np.testing.assert_array_equal(policy({"a": [2.0], "b": [1.0]}), policy(np.array([1.0, 2.0])))


def test_actions_are_in_the_environments_bounds(tmp_path, dataset):
    saved(tmp_path, dataset, "bc")
    actions = load_policy(tmp_path)(1e3 * np.random.default_rng(0).normal(size=(50, 2)))
    low, high = np.asarray(dataset.spec.action_low), np.asarray(dataset.spec.action_high)
    assert (actions >= low).all() and (actions <= high).all()
    assert np.abs(actions).max() > 1  # not left in [−1, 1]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dqn", {}), ("bcq_discrete", {}), ("bc", {"policy": "categorical"})],
)
def test_discrete_actions_are_indices_that_the_environment_takes(tmp_path, name, settings):
    dataset = toy_dataset(discrete=True)
    saved(tmp_path, dataset, name, settings)
    policy, env = load_policy(tmp_path), environments.make_from_spec(dataset.spec)
    observation, _ = env.reset(seed=2)
    action = policy(observation)
    assert env.action_space.contains(action)
    assert env.step(action)[1] == action  # the toy pays the index
    actions = policy(5 * np.random.default_rng(0).normal(size=(50, 2)))
    assert actions.shape == (50,) and all(map(env.action_space.contains, actions))
    assert len(np.unique(actions)) > 1


def test_what_cannot_be_loaded_is_said(tmp_path, dataset):
    with pytest.raises(InputError, match="holds no policy"):
        load_policy(tmp_path)
    saved(tmp_path, dataset, "bc")
    with pytest.raises(InputError, match="seed_index=3 but the run has seeds 0 to 2"):
        load_policy(tmp_path, 3)
    with pytest.raises(InputError, match="3 numbers but this policy was trained on 2"):
        load_policy(tmp_path)(np.zeros(3))
    path = tmp_path / "policy" / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"algorithm": "dreamer"}))
    with pytest.raises(InputError, match="dreamer"):
        load_policy(tmp_path)


@pytest.mark.parametrize("missing", ["actor/params/head/kernel", "observation_mean"])
def test_missing_weights_are_never_made_up(tmp_path, dataset, missing):
    saved(tmp_path, dataset, "bc")
    path = tmp_path / "policy" / "weights.npz"
    with np.load(path) as file:
        kept = {name: array for name, array in file.items() if name != missing}
    np.savez(path, **kept)
    with pytest.raises(InputError, match=missing):
        load_policy(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path, dataset):
    saved(tmp_path, dataset, "bc")
    path = tmp_path / "policy" / "weights.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"actor/params/head/bias": np.full((3, 4), np.nan)})
    with pytest.raises(InputError, match="no finite actor/params/head/bias"):
        load_policy(tmp_path)


def test_a_truncated_file_is_said(tmp_path, dataset):
    saved(tmp_path, dataset, "bc")
    path = tmp_path / "policy" / "weights.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="holds no policy"):
        load_policy(tmp_path)


def test_a_pickle_in_the_weights_is_refused(tmp_path, dataset):
    saved(tmp_path, dataset, "bc")
    np.savez(tmp_path / "policy" / "weights.npz", actor=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="holds no policy"):
        load_policy(tmp_path)


def test_a_diverged_seed_is_refused_and_the_others_act_as_ever(tmp_path, dataset):
    saved(tmp_path / "all", dataset, "bc")
    saved(tmp_path, dataset, "bc", diverged=[None, "critic/loss is nan at step 7", None])
    with pytest.raises(InputError, match=r"seed_index=1 .* diverged .*is nan at step 7"):
        load_policy(tmp_path, 1)
    for i in (0, 2):
        expected = load_policy(tmp_path / "all", i)(np.ones(2))
        np.testing.assert_array_equal(load_policy(tmp_path, i)(np.ones(2)), expected)


def test_a_policy_written_before_seeds_were_frozen_loads(tmp_path, dataset):
    saved(tmp_path, dataset, "bc")
    path = tmp_path / "policy" / "policy.json"
    description = json.loads(path.read_text())
    del description["diverged"]
    path.write_text(json.dumps(description))
    assert load_policy(tmp_path, 2)(np.ones(2)).shape == (2,)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.ones((2, 3, 2)), r"shape \(2, 3, 2\)"),
        ("north", "not an array of numbers"),
        ({}, "not an array"),
    ],
)
def test_observations_that_are_none_are_refused(tmp_path, dataset, observation, message):
    saved(tmp_path, dataset, "bc")
    with pytest.raises(InputError, match=message):
        load_policy(tmp_path)(observation)
