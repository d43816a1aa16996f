import json
import time
import urllib.request

import h5py
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.types import InputError

NAME = "test/task-v0"


def box(*shape, low=-1.0, high=1.0):
    size = int(np.prod(shape))
    low, high = (np.full(size, bound).reshape(shape).tolist() for bound in (low, high))
    return {"type": "Box", "dtype": "float64", "shape": list(shape), "low": low, "high": high}


def dictionary(**entries):
    return {"type": "Dict", "subspaces": entries}


@pytest.fixture
def write(tmp_path):
    """Writes episodes, each a dict of arrays or of dicts of arrays, as a Minari dataset."""

    def write(episodes, observation=None, action=None, name=NAME, **metadata):
        folder = tmp_path / "minari" / name / "data"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "main_data.hdf5", "w") as file:
            for i, episode in enumerate(episodes):
                group = file.create_group(f"episode_{i}")
                for key, values in episode.items():
                    parts = values if isinstance(values, dict) else {"": values}
                    for entry, array in parts.items():
                        group[f"{key}/{entry}".rstrip("/")] = array
        metadata = {
            "observation_space": json.dumps(observation or box(3)),
            "action_space": json.dumps(action or box(2)),
            "total_steps": sum(len(episode["actions"]) for episode in episodes),
            "data_format": "hdf5",
        } | metadata
        (folder / "metadata.json").write_text(json.dumps(metadata))
        return folder

    return write


def episode(length=3, index=0, **changes):
    rng = np.random.default_rng(index)
    return {
        "observations": rng.normal(size=(length + 1, 3)),
        "actions": rng.uniform(-1, 1, (length, 2)),
        "rewards": np.full(length, float(index)),
        "terminations": np.zeros(length, bool),
        "truncations": np.arange(length) == length - 1,
    } | changes


def test_episodes_are_read_in_numeric_order(write):
    write([episode(2, i) for i in range(11)])
    dataset = data.load(NAME)
    np.testing.assert_array_equal(dataset.transitions.reward, np.repeat(np.arange(11), 2))
    np.testing.assert_array_equal(dataset.episode, np.repeat(np.arange(11), 2))


def test_last_observation_is_the_next_one_at_the_cut(write):
    episodes = [episode(3, 1), episode(2, 2)]
    write(episodes)
    rows = data.load(NAME).transitions
    for found, part in ((rows.observation, slice(0, -1)), (rows.next_observation, slice(1, None))):
        expected = np.concatenate([e["observations"][part] for e in episodes])
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_terminations_end_and_truncations_bootstrap(write):
    ended = {"terminations": np.array([0, 0, 1], bool)}  # truncated at once: the true end wins
    write([episode(3), episode(3, **ended)])
    np.testing.assert_array_equal(data.load(NAME).transitions.terminal, [0, 0, 0, 0, 0, 1])


def test_an_episode_without_end_flag_ends_all_the_same(write):
    write([episode(2, truncations=np.zeros(2, bool)), episode(2)])
    dataset = data.load(NAME)
    np.testing.assert_array_equal(dataset.episode, [0, 0, 1, 1])
    assert dataset.transitions.terminal.sum() == 0


def test_actions_are_rescaled_from_the_recorded_space(write):
    write([episode(actions=np.array([[0, 0], [4, 4], [2, 1.0]]))], action=box(2, low=0, high=4))
    dataset = data.load(NAME)
    np.testing.assert_allclose(dataset.transitions.action, [[-1, -1], [1, 1], [0, -0.5]])
    assert dataset.spec.action_high == (4.0, 4.0)


def goal_episode(achieved):
    rng = np.random.default_rng(3)
    observation = rng.normal(size=(4, 4))
    entries = {
        "desired_goal": rng.normal(size=(4, 2)),
        "observation": observation,
        "achieved_goal": observation[:, :2] if achieved is None else achieved,
    }
    return episode(observations=entries), entries


GOAL_SPACE = dictionary(desired_goal=box(2), observation=box(4), achieved_goal=box(2))


def test_achieved_goal_that_repeats_the_observation_is_dropped(write):
    written, entries = goal_episode(None)
    write([written], GOAL_SPACE)
    dataset = data.load(NAME)
    assert dataset.spec.observation_keys == ("observation", "desired_goal")
    expected = np.hstack([entries["observation"], entries["desired_goal"]])
    np.testing.assert_allclose(dataset.transitions.observation, expected[:-1], rtol=1e-6)
    np.testing.assert_allclose(dataset.transitions.next_observation, expected[1:], rtol=1e-6)


def test_achieved_goal_of_its_own_is_kept_in_front(write):
    written, entries = goal_episode(np.ones((4, 2)))
    write([written], GOAL_SPACE)
    dataset = data.load(NAME)
    keys = ("achieved_goal", "observation", "desired_goal")
    assert dataset.spec.observation_keys == keys
    expected = np.hstack([entries[key] for key in keys])
    np.testing.assert_allclose(dataset.transitions.observation, expected[:-1], rtol=1e-6)


def test_chosen_keys_are_used_as_given(write):
    written, entries = goal_episode(None)
    write([written], GOAL_SPACE)
    dataset = data.load(NAME, observation_keys=("desired_goal", "achieved_goal"))
    expected = np.hstack([entries["desired_goal"], entries["achieved_goal"]])
    np.testing.assert_allclose(dataset.transitions.observation, expected[:-1], rtol=1e-6)
    assert dataset.spec.observation_keys == ("desired_goal", "achieved_goal")


@pytest.mark.parametrize(
    ("observation", "action", "keys", "message"),
    [
        (dictionary(observation=box(3), goal=dictionary(a=box(1))), None, (), "goal cannot be fl"),
        (dictionary(observation={"type": "Discrete"}), None, (), "observation cannot be flattened"),
        (dictionary(observation=box(3), other=box(1)), None, (), "other cannot be flattened"),
        ({"type": "Tuple", "subspaces": []}, None, (), "are a Tuple"),
        (box(3), None, ("observation",), "are a Box"),
        (dictionary(observation=box(3)), None, ("goal",), "goal cannot be read"),
        (None, {"type": "Discrete", "n": 2}, (), "Discrete actions"),
        (None, {"type": "Box"}, (), "metadata.json .* is not as Minari writes it"),
    ],
)
def test_spaces_that_cannot_be_used(write, observation, action, keys, message):
    write([episode()], observation, action)
    with pytest.raises(InputError, match=message):
        data.load(NAME, observation_keys=keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((3, 3))}, "episode_1 .* 3 observations for 3 actions"),
        ({"rewards": np.zeros(2)}, "episode_1 .* 2 rewards but 3 actions"),
        ({"observations": np.zeros((4, 5))}, "episode_1/observations .* shape .* described"),
        ({"rewards": np.full(3, np.nan)}, "not finite .* transition 3"),
    ],
)
def test_broken_episodes_are_named(write, changes, message):
    write([episode(), episode(**changes)])
    with pytest.raises(InputError, match=message):
        data.load(NAME)


def test_missing_array_is_named(write):
    broken = episode()
    del broken["rewards"]
    write([broken])
    with pytest.raises(InputError, match="no 'rewards' in /episode_0"):
        data.load(NAME)


@pytest.mark.parametrize(("claimed", "found"), [(2, "more"), (9, "3")])
def test_number_of_steps_is_verified(write, claimed, found):
    write([episode()], total_steps=claimed)
    with pytest.raises(InputError, match=f"says {claimed} steps but its episodes hold {found}"):
        data.load(NAME)


def spec(**fields):
    return json.dumps({"entry_point": "os:system", "kwargs": {}, "max_episode_steps": 7} | fields)


def test_environment_and_references_come_from_the_metadata(write):
    write(
        [episode()],
        env_spec=spec(id="Hopper-v4"),
        eval_env_spec=spec(id="Hopper-v5", kwargs={"a": 1}),
        ref_min_score=1,
        ref_max_score=2,
    )
    found = data.load(NAME).spec
    assert (found.env_id, found.env_kwargs, found.max_episode_steps) == ("Hopper-v5", '{"a": 1}', 7)
    assert found.reference_scores == (1.0, 2.0)


def test_family_references_stand_in(write):
    write([episode()], env_spec=spec(id="Hopper-v4"), ref_min_score=None, ref_max_score=None)
    assert data.load(NAME).spec.reference_scores == (-20.272305, 3234.3)


def test_another_environment_does_not_inherit_arguments(write):
    write([episode()], env_spec=spec(id="Hopper-v4", kwargs={"a": 1}))
    found = data.load(NAME, env_id="Ant-v5").spec
    assert (found.env_id, found.env_kwargs, found.max_episode_steps) == ("Ant-v5", "{}", None)


def test_no_environment_is_fine(write):
    write([episode()])
    assert data.load(NAME).spec.env_id is None


@pytest.mark.parametrize("name", ["../x-v0", "a/../../x-v0", "/tmp/x-v0", "a//x-v0", "a b-v0"])
def test_ids_never_leave_the_root(name):
    with pytest.raises(InputError, match="never leaves"):
        data.load(name)


def test_no_network_is_said_at_once(write, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route")

    write([episode()])
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"zzz/q-v1 is not in .* cannot be reached .*no route"):
        data.load("zzz/q-v1")
    with pytest.raises(InputError, match=f"did you mean {NAME}"):
        data.load("test/tsk-v0")
    assert time.perf_counter() - start < 1


def test_incomplete_download_is_named(write):
    (write([episode()]) / "main_data.hdf5").unlink()
    with pytest.raises(InputError, match=r"no main_data.hdf5"):
        data.load(NAME)


def test_hdf5_and_minari_hold_the_same_demonstrations(shared_data, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(shared_data / "minari"))
    minari = data.load("rebuilt/door/human-v0")
    flat = data.load(str(shared_data / "d4rl_hdf5/door-human.hdf5"))
    assert minari.spec.fingerprint == flat.spec.fingerprint
    assert minari.spec.max_episode_steps == 200
    assert minari.num_episodes == 25
