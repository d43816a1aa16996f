"""Discrete actions: indices in files and environments, one-hot rows inside."""

import dataclasses

import numpy as np
import pytest

from offrl_jax import data, environments
from offrl_jax.data.card import card
from offrl_jax.data.summary import summary
from offrl_jax.evaluation.rollouts import to_environment
from offrl_jax.reports import dataset_card
from offrl_jax.types import InputError
from tests import files
from tests.toy import DISCRETE_ENV_ID, ENV_ID, toy_dataset

INDICES = np.array([2, 0, 1, 1, 2])
ONE_HOT = [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
CARTPOLE = np.random.default_rng(0).integers(2, size=20)


def made(action=INDICES, num_actions=3, **changes):
    n = len(action)
    arrays = np.arange(2.0 * n).reshape(n, 2), action, np.arange(n), np.arange(n) == 2
    following = np.arange(2.0 * n).reshape(n, 2) + 2
    options = {"next_observation": following, "num_actions": num_actions} | changes
    return data.dataset_from_arrays(*arrays, **options)


def test_indices_become_one_hot_rows():
    dataset = made()
    np.testing.assert_array_equal(dataset.transitions.action, ONE_HOT)
    spec = dataset.spec
    assert spec.discrete and spec.action_size == 3
    assert (spec.action_low, spec.action_high) == ((0.0,) * 3, (1.0,) * 3)
    assert not toy_dataset().spec.discrete


def test_next_actions_are_one_hot_rows_within_the_episode():
    rows = made().transitions
    np.testing.assert_array_equal(rows.next_action[:4], ONE_HOT[1:])
    np.testing.assert_array_equal(rows.next_action_valid, [1, 1, 0, 1, 0])


def test_the_environment_gets_the_indices_back():
    dataset = made()
    action = np.asarray(dataset.transitions.action)
    np.testing.assert_array_equal(to_environment(action, dataset.spec), INDICES)
    np.testing.assert_array_equal(
        to_environment(action[:4].reshape(2, 2, 3), dataset.spec), [[2, 0], [1, 1]]
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, bool])
def test_the_fingerprint_follows_the_indices_alone(dtype):
    indices = np.array([1, 0, 1, 1, 0])
    expected = made(indices, 2).spec.fingerprint
    assert made(indices.astype(dtype), 2).spec.fingerprint == expected
    assert made(indices[:, None].astype(dtype), 2).spec.fingerprint == expected  # as a column
    assert made(1 - indices, 2).spec.fingerprint != expected
    assert made(indices, 3).spec.fingerprint != expected


@pytest.mark.parametrize(
    ("action", "num_actions", "message"),
    [
        (INDICES + 0.5, 3, r"not one of the indices 0 to 2 in 5 of 5 .* \(episode 0\)"),
        (INDICES, 2, r"not one of the indices 0 to 1 in 2 of 5 .* first at transition 0"),
        (INDICES - 1, 3, r"not one of the indices 0 to 2 in 1 of 5 .* first at transition 1"),
        (np.array([0, 1, 2, np.nan, 0]), 3, r"not finite in 1 of 5 .* \(episode 1\)"),
        (INDICES, 1, "num_actions=1; .* from 2 on"),
        (np.eye(3)[INDICES], 3, r"shape \(5, 3\); it needs \(transitions,\)"),
        (INDICES, None, "or num_actions where actions are indices"),
        (INDICES, 10**15, "of memory"),
    ],
    ids=[
        *("fraction", "too large", "negative", "nan", "one", "one-hot", "undeclared"),
        "more than memory holds",
    ],
)
def test_what_are_no_indices_is_refused(action, num_actions, message):
    with pytest.raises(InputError, match=message):
        made(action, num_actions)


def test_the_number_of_actions_may_be_numpys():
    """As `env.action_space.n` is."""
    assert made(INDICES, np.int64(3)).spec == made(INDICES, 3).spec


def test_whole_numbers_without_num_actions_are_told_of(caplog):
    assert not made(INDICES[:, None] / 2.0, None).spec.discrete
    assert not caplog.text
    made(INDICES[:, None] // 2, None)
    assert "give num_actions" in caplog.text


def columns(**changes):
    """CartPole's shapes."""
    rng = np.random.default_rng(0)
    observations, following = rng.normal(size=(2, 20, 4)).astype(np.float32)
    shapes = {"observations": observations, "next_observations": following, "actions": CARTPOLE}
    return files.flat(**shapes | changes)


@pytest.fixture(params=[(files.write_npz, "data.npz"), (files.write_hdf5, "data.hdf5")])
def write(request, tmp_path):
    writer, name = request.param
    return lambda columns, **more: writer(tmp_path / name, columns, **more)


def check_cartpole(dataset):
    assert dataset.spec.discrete and dataset.spec.action_size == 2
    np.testing.assert_array_equal(np.argmax(dataset.transitions.action, -1), CARTPOLE)


def test_a_file_of_no_environment_says_how_many_there_are(write):
    check_cartpole(data.load_dataset(write(columns(), num_actions=2)))
    with pytest.raises(InputError, match="num_actions"):
        data.load_dataset(write(columns()))


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
def test_the_environment_of_a_file_says_how_many_there_are(write, shape):
    path = write(columns(actions=CARTPOLE.reshape(shape)), env_id="CartPole-v1")
    check_cartpole(data.load_dataset(path))
    given = columns(actions=CARTPOLE.reshape(shape))
    check_cartpole(data.load_dataset(write(given), env_id="CartPole-v1"))


@pytest.mark.parametrize(
    ("env_id", "width", "number"), [("CartPole-v1", 4, 5), ("Pendulum-v1", 3, 2)]
)
def test_the_files_number_and_the_environments_must_agree(write, env_id, width, number):
    observations = np.zeros((20, width))
    rows = {"observations": observations, "next_observations": observations}
    path = write(columns(actions=CARTPOLE[:, None], **rows), env_id=env_id, num_actions=number)
    with pytest.raises(InputError, match=f"num_actions of .* is {number} but {env_id} has"):
        data.load_dataset(path)


def test_without_the_simulator_the_files_own_number_counts(write, monkeypatch, caplog):
    def absent(*arguments):
        raise environments.SimulatorMissing("CartPole-v1 needs a package more")

    monkeypatch.setattr(environments, "make", absent)
    check_cartpole(data.load_dataset(write(columns(), env_id="CartPole-v1", num_actions=2)))
    assert "are taken to be 2 discrete ones: CartPole-v1 needs" in caplog.text


@pytest.mark.parametrize("number", [2.0, [2, 2], "two"])
def test_a_number_of_actions_that_is_none(write, number):
    with pytest.raises(InputError, match=r"num_actions of .* must be how many discrete actions"):
        data.load_dataset(write(columns(), num_actions=number))


def write_minari(space, actions=CARTPOLE, **metadata):
    episode = files.episode(20, observations=np.ones((21, 4)), actions=actions)
    files.write_minari([episode], observation=files.box(4), action=space, **metadata)


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
def test_minari_datasets(shape):
    space = {"type": "Discrete", "dtype": "int64", "start": 0, "n": 2}
    write_minari(space, CARTPOLE.reshape(shape), env_spec=files.env_spec(id="CartPole-v1"))
    dataset = data.load_dataset(files.NAME)
    check_cartpole(dataset)
    env = environments.make_from_spec(dataset.spec)
    assert env.spec.id == "CartPole-v1"
    env.close()


def test_minari_actions_that_do_not_start_at_0_are_refused():
    write_minari({"type": "Discrete", "dtype": "int64", "start": 1, "n": 2}, CARTPOLE + 1)
    with pytest.raises(InputError, match=r"Discrete actions; .* indices from 0 on"):
        data.load_dataset(files.NAME)


@pytest.mark.parametrize(
    ("discrete", "env_id", "message"),
    [
        (True, ENV_ID, "toy are discrete but those of OffrlToy-v0 continuous"),
        (False, DISCRETE_ENV_ID, "toy are continuous but those of OffrlDiscreteToy-v0 discrete"),
        (True, "CartPole-v1", "have 2 numbers|have 3 values"),
    ],
)
def test_the_environments_actions_must_be_the_datas(discrete, env_id, message):
    spec = dataclasses.replace(toy_dataset(discrete=discrete).spec, env_id=env_id)
    with pytest.raises(InputError, match=message):
        environments.make_from_spec(spec)


def test_another_number_of_actions_is_refused():
    spec = dataclasses.replace(made(np.arange(5) % 4, 4).spec, env_id=DISCRETE_ENV_ID)
    with pytest.raises(InputError, match="have 4 values but those of OffrlDiscreteToy-v0 have 3"):
        environments.make_from_spec(spec)


@pytest.mark.parametrize("actions", [np.ones((20, 2), np.float32), CARTPOLE + 2])
def test_a_file_whose_actions_are_not_the_environments(write, actions):
    with pytest.raises(
        InputError, match=r"those of CartPole-v1 have 1|not one of the indices 0 to 1"
    ):
        data.load_dataset(write(columns(actions=actions), env_id="CartPole-v1"))


def test_the_card_has_shares_and_no_bounds():
    found = card(made(np.array([0, 3, 0, 1]), 4))
    assert found["actions"] == {"shares": [0.5, 0.25, 0.0, 0.25]}
    assert found["histograms"]["action"] == []
    assert any("actions never taken: 2" in warning for warning in found["warnings"])
    assert not any("bounds" in warning for warning in found["warnings"])
    assert summary(made())["saturated_actions"] is None


def test_the_page_shows_them():
    found = card(made(np.array([0, 3, 0, 1]), 4))
    text, page = dataset_card.text(found), dataset_card.page(found)
    assert "of 2 numbers observed and 4 discrete actions" in text
    assert "0: 50.0%, 1: 25.0%, 2: 0.0%, 3: 25.0%" in text
    assert 'alt="shares of actions"' in page and "histograms of actions" not in page
    for words in ("at bounds", "saturated", "of action\n"):
        assert words not in text and words not in page
