"""Maze data with many goals become attempts at one."""

import h5py
import numpy as np
import pytest

from offrl_jax import data, environments
from offrl_jax.data.fixed_goal import aim_at
from offrl_jax.types import InputError

GOAL = np.array([1.0, 2.0])


def walk(*points):
    """Steps through these points, the last with a true end."""
    points = np.array(points, float)
    n = len(points) - 1
    return {
        "observations": points[:-1],
        "next_observations": points[1:],
        "actions": np.arange(n, dtype=float)[:, None],
        "rewards": np.arange(n, dtype=float) + 5,
        "terminals": np.arange(n) == n - 1,
        "timeouts": np.zeros(n, bool),
    }


def test_reaching_the_goal_pays_one_and_ends_the_episode():
    aimed = aim_at(walk((0, 0), (0, 1), (1, 1.6), (3, 3)), GOAL)
    np.testing.assert_array_equal(aimed["rewards"], [0, 1])
    np.testing.assert_array_equal(aimed["terminals"], [False, True])
    np.testing.assert_array_equal(aimed["timeouts"], [False, False])
    assert aimed["rewards"].dtype == np.float32


def test_steps_that_start_at_the_goal_are_left_out_and_cut_the_episode():
    aimed = aim_at(walk((0, 0), (1, 2), (1.1, 2), (3, 3), (4, 4), (1, 2)), GOAL)
    np.testing.assert_array_equal(aimed["actions"][:, 0], [0, 3, 4])
    np.testing.assert_array_equal(aimed["terminals"], [True, False, True])
    np.testing.assert_array_equal(aimed["timeouts"], [False, False, False])


def test_other_ends_become_cuts():
    there = walk((0, 0), (1, 2))
    elsewhere = walk((5, 5), (6, 6), (7, 7))
    both = {field: np.concatenate([elsewhere[field], there[field]]) for field in there}
    aimed = aim_at(both, GOAL)
    np.testing.assert_array_equal(aimed["terminals"], [False, False, True])
    np.testing.assert_array_equal(aimed["timeouts"], [False, True, False])
    late = both | {"terminals": np.zeros(3, bool), "timeouts": np.array([0, 1, 0], bool)}
    np.testing.assert_array_equal(aim_at(late, GOAL)["timeouts"], [False, True, False])


def test_the_radius_counts_and_only_x_and_y_do():
    steps = walk((0, 0, 9), (1, 3, 9))
    with pytest.raises(InputError, match=r"none of the 1 steps reaches the goal at \[1.0, 2.0\]"):
        aim_at(steps, GOAL)
    assert aim_at(steps, GOAL, radius=1.0)["terminals"].all()


def test_without_next_observations_the_data_are_refused():
    steps = walk((0, 0), (1, 2))
    del steps["next_observations"]
    with pytest.raises(InputError, match="have no next_observations"):
        aim_at(steps, GOAL)


BAD = {
    "rows": ({"actions": np.zeros((3, 1))}, "different numbers of rows"),
    "rank": ({"observations": np.zeros(1)}, r"observations has shape \(1,\)"),
    "width": ({"next_observations": np.zeros((1, 1))}, r"next_observations has shape \(1, 1\)"),
    "type": ({"rewards": np.array(["a"])}, "rewards has shape"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_columns_of_another_shape_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        aim_at(walk((0, 0), (1, 2)) | change, GOAL)


def test_flags_may_be_columns_of_one():
    steps = walk((0, 0), (0, 1), (1, 2))
    column = {field: steps[field][:, None] for field in ("rewards", "terminals", "timeouts")}
    aimed = aim_at(steps | column, GOAL)
    np.testing.assert_array_equal(aimed["terminals"], [False, True])
    np.testing.assert_array_equal(aimed["timeouts"], [False, False])


@pytest.mark.parametrize(
    "attributes",
    [
        {"env_kwargs": "[1"},
        {"env_kwargs": '["ab"]'},
        {"env_kwargs": "[" * 50_000},
        {"max_episode_steps": 0},
        {"max_episode_steps": 7.5},
        {"max_episode_steps": np.inf},
    ],
    ids=lambda attributes: str(attributes)[:40],
)
def test_a_task_that_cannot_be_read_is_refused(tmp_path, columns, attributes):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for key, values in columns.items():
            file[key] = values
        file.attrs.update({"env_id": "Hopper-v5"} | attributes)
    with pytest.raises(InputError, match="env_kwargs and max_episode_steps"):
        data.load_dataset(tmp_path / "a.hdf5")


def test_arguments_of_the_environment_decide_its_shape(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations"] = file["next_observations"] = rng.normal(size=(5, 27))
        file["actions"] = rng.uniform(-0.5, 0.5, (5, 8))
        file["rewards"], file["terminals"] = np.zeros(5), np.zeros(5, bool)
        file.attrs["env_id"] = "Ant-v5"
        file.attrs["env_kwargs"] = '{"include_cfrc_ext_in_observation": false}'
        file.attrs["max_episode_steps"] = 70
    spec = data.load_dataset(tmp_path / "a.hdf5").spec
    assert spec.env_kwargs == '{"include_cfrc_ext_in_observation": false}'
    assert spec.max_episode_steps == 70


@pytest.mark.parametrize(("env_id", "noise"), [("Hopper-v5", 0.1), ("AntMaze_UMaze-v4", np.nan)])
def test_a_noise_that_no_maze_has_is_refused(env_id, noise):
    with pytest.raises(InputError, match="position_noise_range is for mazes"):
        environments.make(env_id, {"position_noise_range": noise})
