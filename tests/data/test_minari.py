import time
import urllib.request

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.types import InputError
from tests.files import NAME, box, dictionary, env_spec, episode, write_minari


@pytest.fixture
def write():
    return write_minari


def test_episodes_are_read_in_numeric_order(write):
    write([episode(2, i) for i in range(11)])
    dataset = data.load_dataset(NAME)
    np.testing.assert_array_equal(dataset.transitions.reward, np.repeat(np.arange(11), 2))
    np.testing.assert_array_equal(dataset.episode, np.repeat(np.arange(11), 2))


def test_last_observation_is_the_next_one_at_the_cut(write):
    episodes = [episode(3, 1), episode(2, 2)]
    write(episodes)
    rows = data.load_dataset(NAME).transitions
    for found, part in ((rows.observation, slice(0, -1)), (rows.next_observation, slice(1, None))):
        expected = np.concatenate([e["observations"][part] for e in episodes])
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_terminations_end_and_truncations_bootstrap(write):
    ended = {"terminations": np.array([0, 0, 1], bool)}  # truncated at once: the true end wins
    write([episode(3), episode(3, **ended)])
    np.testing.assert_array_equal(data.load_dataset(NAME).transitions.terminal, [0, 0, 0, 0, 0, 1])


def test_an_episode_without_end_flag_ends_all_the_same(write):
    write([episode(2, truncations=np.zeros(2, bool)), episode(2)])
    dataset = data.load_dataset(NAME)
    np.testing.assert_array_equal(dataset.episode, [0, 0, 1, 1])
    assert dataset.transitions.terminal.sum() == 0


def test_actions_are_rescaled_from_the_recorded_space(write):
    write([episode(actions=np.array([[0, 0], [4, 4], [2, 1.0]]))], action=box(2, low=0, high=4))
    dataset = data.load_dataset(NAME)
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
    dataset = data.load_dataset(NAME)
    assert dataset.spec.observation_keys == ("observation", "desired_goal")
    expected = np.hstack([entries["observation"], entries["desired_goal"]])
    np.testing.assert_allclose(dataset.transitions.observation, expected[:-1], rtol=1e-6)
    np.testing.assert_allclose(dataset.transitions.next_observation, expected[1:], rtol=1e-6)


def test_achieved_goal_of_its_own_is_kept_in_front(write):
    written, entries = goal_episode(np.ones((4, 2)))
    write([written], GOAL_SPACE)
    dataset = data.load_dataset(NAME)
    keys = ("achieved_goal", "observation", "desired_goal")
    assert dataset.spec.observation_keys == keys
    expected = np.hstack([entries[key] for key in keys])
    np.testing.assert_allclose(dataset.transitions.observation, expected[:-1], rtol=1e-6)


def test_chosen_keys_are_used_as_given(write):
    written, entries = goal_episode(None)
    write([written], GOAL_SPACE)
    dataset = data.load_dataset(NAME, observation_keys=("desired_goal", "achieved_goal"))
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
        (None, {"type": "MultiDiscrete", "nvec": [2]}, (), "has MultiDiscrete actions"),
        (None, {"type": "Box"}, (), "metadata.json .* is not as Minari writes it"),
    ],
)
def test_spaces_that_cannot_be_used(write, observation, action, keys, message):
    write([episode()], observation, action)
    with pytest.raises(InputError, match=message):
        data.load_dataset(NAME, observation_keys=keys)


def test_environment_and_references_come_from_the_metadata(write):
    write(
        [episode()],
        env_spec=env_spec(id="Hopper-v4"),
        eval_env_spec=env_spec(id="Hopper-v5", kwargs={"a": 1}),
        ref_min_score=1,
        ref_max_score=2,
    )
    found = data.load_dataset(NAME).spec
    assert (found.env_id, found.env_kwargs, found.max_episode_steps) == ("Hopper-v5", '{"a": 1}', 7)
    assert found.reference_scores == (1.0, 2.0)


def test_family_references_stand_in(write):
    write([episode()], env_spec=env_spec(id="Hopper-v4"), ref_min_score=None, ref_max_score=None)
    assert data.load_dataset(NAME).spec.reference_scores == (-20.272305, 3234.3)


def test_another_environment_does_not_inherit_arguments(write):
    write([episode()], env_spec=env_spec(id="Hopper-v4", kwargs={"a": 1}))
    found = data.load_dataset(NAME, env_id="Ant-v5").spec
    assert (found.env_id, found.env_kwargs, found.max_episode_steps) == ("Ant-v5", "{}", None)


def test_no_environment_is_fine(write):
    write([episode()])
    assert data.load_dataset(NAME).spec.env_id is None


def test_no_network_is_said_at_once(write, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route")

    write([episode()])
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"zzz/q-v1 is not in .* cannot be reached .*no route"):
        data.load_dataset("zzz/q-v1")
    with pytest.raises(InputError, match=f"did you mean {NAME}"):
        data.load_dataset("test/tsk-v0")
    assert time.perf_counter() - start < 1


def test_incomplete_download_is_named(write):
    (write([episode()]) / "main_data.hdf5").unlink()
    with pytest.raises(InputError, match=r"no main_data.hdf5"):
        data.load_dataset(NAME)


def test_hdf5_and_minari_hold_the_same_demonstrations(shared_data, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(shared_data / "minari"))
    minari = data.load_dataset("rebuilt/door/human-v0")
    flat = data.load_dataset(str(shared_data / "d4rl_hdf5/door-human.hdf5"))
    assert minari.spec.fingerprint == flat.spec.fingerprint
    assert minari.spec.max_episode_steps == 200
    assert minari.num_episodes == 25
