"""npz and HDF5 files of flat columns."""

import h5py
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data.sources.columns import REQUIRED
from offrl_jax.types import InputError
from tests.files import write_hdf5, write_npz


@pytest.fixture(params=[(write_npz, "data.npz"), (write_hdf5, "data.hdf5"), (write_hdf5, "d.h5")])
def write(request, tmp_path):
    writer, name = request.param
    return lambda columns, **more: writer(tmp_path / name, columns, **more)


def widened(columns, observation=3, action=2):
    rng = np.random.default_rng(0)
    n = len(columns["rewards"])
    return columns | {
        "observations": rng.normal(size=(n, observation)),
        "next_observations": rng.normal(size=(n, observation)),
        "actions": rng.uniform(-0.4, 0.4, (n, action)),
    }


def test_columns_arrive(write, columns):
    rows = data.load_dataset(write(columns)).transitions
    np.testing.assert_array_equal(rows.observation, columns["observations"])
    np.testing.assert_allclose(rows.action, columns["actions"], atol=1e-6)
    np.testing.assert_array_equal(rows.reward, columns["rewards"])
    np.testing.assert_array_equal(rows.next_observation, columns["next_observations"])
    np.testing.assert_array_equal(rows.terminal, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(rows.next_action_valid, [1, 1, 0, 1, 0])


def test_both_formats_have_one_fingerprint(tmp_path, columns):
    npz = data.load_dataset(write_npz(tmp_path / "a.npz", columns))
    hdf5 = data.load_dataset(write_hdf5(tmp_path / "a.hdf5", columns))
    assert npz.spec.fingerprint == hdf5.spec.fingerprint


def test_optional_columns_may_be_absent(write, columns):
    dataset = data.load_dataset(write({key: columns[key] for key in REQUIRED}))
    assert len(dataset) == 4  # the last row's next observation is unknown


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_key_names_file_key_and_keys_found(write, columns, key):
    del columns[key]
    path = write(columns)
    with pytest.raises(InputError) as caught:
        data.load_dataset(path)
    for part in (path, repr(key), *columns):
        assert part in str(caught.value)


def test_disagreeing_lengths_and_nan_are_named(write, columns):
    with pytest.raises(InputError, match="4 rows of reward"):
        data.load_dataset(write(columns | {"rewards": np.ones(4)}))
    with pytest.raises(InputError, match=r"reward .* not finite"):
        data.load_dataset(write(columns | {"rewards": np.full(5, np.nan)}))


def test_ogbench_masks(write, columns):
    columns |= {
        "terminals": np.array([0, 0, 1, 0, 1.0]),
        "masks": np.array([1, 1, 1, 1, 0.0]),
    }
    del columns["timeouts"], columns["next_observations"]
    dataset = data.load_dataset(write(columns))
    np.testing.assert_array_equal(dataset.transitions.reward, [1, 2, 4, 5])  # row 2 was cut
    np.testing.assert_array_equal(dataset.transitions.terminal, [0, 0, 0, 1])
    np.testing.assert_array_equal(dataset.episode, [0, 0, 1, 1])


def test_environment_of_the_file_gives_bounds_and_reference(write, columns):
    spec = data.load_dataset(write(widened(columns, 376, 17), env_id="Humanoid-v4")).spec
    assert spec.env_id == "Humanoid-v4"
    assert spec.action_high == (pytest.approx(0.4),) * 17
    assert spec.observation_keys == () and spec.reference_scores is None


def test_given_environment_overrides_the_files(write, columns):
    path = write(widened(columns, 11, 3), env_id="HalfCheetah-v5")
    spec = data.load_dataset(path, env_id="Hopper-v5").spec
    assert spec.env_id == "Hopper-v5"
    assert spec.reference_scores == (-20.272305, 3234.3)


def test_widths_that_are_not_the_environments_are_refused(write, columns):
    path = write(widened(columns, 11, 3))
    with pytest.raises(InputError, match=r"actions of .* have 3 numbers but those of HalfCheetah"):
        data.load_dataset(path, env_id="HalfCheetah-v5")
    path = write(widened(columns, 12, 3))
    with pytest.raises(InputError, match=r"observations of .* have 12 numbers .* have 11"):
        data.load_dataset(path, env_id="Hopper-v5")
    path = write(widened(columns, 5, 2))
    with pytest.raises(InputError, match=r"have 5 numbers .* 4 \(observation\)"):
        data.load_dataset(path, env_id="PointMaze_UMaze-v3")


def test_unregistered_environment_is_refused(write, columns):
    with pytest.raises(InputError, match=r"did you mean Hopper-v\d"):
        data.load_dataset(write(columns), env_id="Hoper-v5")


@pytest.mark.parametrize(
    ("width", "chosen", "keys"),
    [
        (4, (), ("observation",)),
        (6, (), ("achieved_goal", "observation")),
        (8, (), ("achieved_goal", "observation", "desired_goal")),
        (6, ("observation", "desired_goal"), ("observation", "desired_goal")),
    ],
)
def test_observation_keys_follow_from_the_width(write, columns, width, chosen, keys):
    path = write(widened(columns, width))
    spec = data.load_dataset(path, env_id="PointMaze_UMaze-v3", observation_keys=chosen).spec
    assert spec.observation_keys == keys


def test_keys_that_the_environment_lacks_are_refused(write, columns):
    with pytest.raises(InputError, match="no entry 'goal'"):
        data.load_dataset(
            write(widened(columns, 4)), env_id="PointMaze_UMaze-v3", observation_keys=("goal",)
        )
    with pytest.raises(InputError, match="being one array"):
        data.load_dataset(
            write(widened(columns, 11, 3)), env_id="Hopper-v5", observation_keys=("observation",)
        )


def test_antmaze_episodes_end_at_the_goal_as_in_d4rl(write, columns):
    spec = data.load_dataset(write(widened(columns, 29, 8)), env_id="AntMaze_UMaze-v4").spec
    assert spec.env_kwargs == '{"continuing_task": false}'
    assert spec.observation_keys == ("achieved_goal", "observation")
    assert spec.reference_scores == (0.0, 1.0)


def test_references_of_the_file_go_before_the_familys(tmp_path, columns):
    columns = widened(columns, 11, 3)
    path = write_hdf5(
        tmp_path / "a.hdf5", columns, env_id="Hopper-v5", ref_min_score="1", ref_max_score=2.0
    )
    assert data.load_dataset(path).spec.reference_scores == (1.0, 2.0)
    path = write_hdf5(
        tmp_path / "b.hdf5", columns, env_id="Hopper-v5", ref_min_score="2", ref_max_score="2"
    )
    assert data.load_dataset(path).spec.reference_scores == (-20.272305, 3234.3)


def test_a_bare_npy_named_npz_is_refused(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match="not an npz"):
        data.load_dataset(str(tmp_path / "a.npz"))


def test_hdf5_group_for_an_array_is_refused(tmp_path, columns):
    del columns["rewards"]
    path = write_hdf5(tmp_path / "a.hdf5", columns)
    with h5py.File(path, "a") as file:
        file.create_group("rewards")
    with pytest.raises(InputError, match=r"'rewards' .* is a group"):
        data.load_dataset(path)


def test_rebuilt_files_load(shared_data):
    dataset = data.load_dataset(str(shared_data / "d4rl_hdf5/antmaze-umaze-diverse.hdf5"))
    assert dataset.num_episodes == 408
    assert dataset.spec.observation_keys == ("achieved_goal", "observation")
