"""Other rewards for the same transitions, the names that arrays are given by, and the one line that
a dataset prints as."""

import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.types import InputError
from tests.toy import toy_dataset


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset()


def test_new_rewards_renew_returns_to_go_and_the_fingerprint(dataset):
    rewards = np.arange(60.0)
    new = data.with_rewards(dataset, rewards)
    np.testing.assert_array_equal(new.transitions.reward, rewards)
    # Episodes have three steps.
    np.testing.assert_allclose(new.transitions.return_to_go[:3], [0 + 0.99 + 2 * 0.9801, 2.98, 2])
    assert new.spec.fingerprint != dataset.spec.fingerprint
    assert new.spec.fingerprint == data.with_rewards(dataset, rewards).spec.fingerprint
    assert new.spec.fingerprint != data.with_rewards(dataset, rewards + 1).spec.fingerprint


def test_mapped_rewards_see_all_transitions_at_once(dataset):
    mapped = data.map_rewards(dataset, lambda rows: -jnp.abs(rows.action[:, 0]) + rows.reward)
    expected = dataset.transitions.reward - abs(dataset.transitions.action[:, 0])
    same = data.with_rewards(dataset, expected)
    np.testing.assert_array_equal(mapped.transitions.reward, same.transitions.reward)
    assert mapped.spec == same.spec


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        (np.zeros(59), "59 rewards are given for 60 transitions of toy"),
        (np.zeros((60, 2)), "reward of dataset toy has shape"),
        (np.full(60, np.nan), "reward of dataset toy is not finite in 60 of 60"),
    ],
)
def test_rewards_that_do_not_fit_are_refused(dataset, rewards, words):
    with pytest.raises(InputError, match=words):
        data.with_rewards(dataset, rewards)


@pytest.mark.parametrize(
    "transform",
    [data.normalize_observations, lambda d: data.transform_rewards(d, scale=2.0)],
    ids=["observations", "rewards"],
)
def test_preprocessed_data_keep_their_rewards(dataset, transform):
    with pytest.raises(InputError, match="replace the rewards of the raw dataset"):
        data.map_rewards(transform(dataset), lambda rows: rows.reward)


def test_data_on_the_disk_keep_their_rewards(dataset, tmp_path):
    folder = data.shard(dataset, tmp_path / "toy.shards", rows_per_shard=25)
    on_disk = data.load_dataset(folder, placement="host")
    with pytest.raises(InputError, match="in host memory; replace them before"):
        data.map_rewards(on_disk, lambda rows: rows.reward)


COLUMNS = {
    "observations": np.arange(8.0).reshape(4, 2),
    "actions": np.zeros((4, 1)),
    "rewards": np.ones(4),
    "terminals": np.array([0, 1, 0, 0]),
    "timeouts": np.array([0, 0, 0, 1]),
    "next_observations": np.ones((4, 2)),
}


def test_plural_keys_of_files_are_names_too():
    plural = data.dataset_from_arrays(**COLUMNS)
    singular = data.dataset_from_arrays(**{key.removesuffix("s"): x for key, x in COLUMNS.items()})
    assert plural.spec == singular.spec
    masked = data.dataset_from_arrays(
        **COLUMNS | {"masks": np.array([1, 0, 1, 1]), "terminals": np.array([0, 0, 0, 1])}
    )
    np.testing.assert_array_equal(masked.transitions.terminal, [0, 1, 0, 0])
    np.testing.assert_array_equal(masked.episode, 0)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"reward": np.ones(4)}, "two arrays of reward"),
        ({"rewards": None}, "has no reward; it needs observation, action"),
        ({"rewards": None, "rewrad": np.ones(4)}, "given rewrad, .*; did you mean reward"),
        ({"timeoutz": np.ones(4)}, "given timeoutz, which a dataset does not have; .* timeout"),
    ],
)
def test_arrays_by_wrong_names_are_refused(columns, words):
    with pytest.raises(InputError, match=words):
        data.dataset_from_arrays(**COLUMNS | columns)


def test_a_dataset_prints_as_one_line(dataset):
    shown = repr(data.with_rewards(dataset, np.ones(60)))
    assert shown.startswith(
        "toy: 60 transitions in 20 episodes, mean return 3.0 (score 30.0), "
        "environment OffrlToy-v0, fingerprint "
    )
    assert "\n" not in shown
