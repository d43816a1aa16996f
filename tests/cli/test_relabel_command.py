"""From a maze file with many goals to one that trains and evaluates on a fixed one."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from offrl_jax import data, environments

ROOT = Path(__file__).parents[2]


def relabel(*flags):
    command = [sys.executable, "-m", "offrl_jax.cli", "datasets", "relabel", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def write_maze_file(folder):
    """Two walks of an ant: one to the centre of cell (1, 1), which is (−4, 4), one elsewhere."""
    rng = np.random.default_rng(0)
    x = np.linspace(0, -4, 9)
    observation = rng.normal(size=(16, 29)).astype(np.float32)
    following = rng.normal(size=(16, 29)).astype(np.float32)
    observation[:8, 0], following[:8, 0] = x[:-1], x[1:]
    observation[:8, 1] = following[:8, 1] = 4
    observation[8:, :2] = following[8:, :2] = 0
    path = folder / "ant.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = observation, following
        file["actions"] = rng.uniform(-1, 1, (16, 8)).astype(np.float32)
        file["rewards"] = np.ones(16, np.float32)
        file["terminals"] = np.arange(16) == 15
        file["timeouts"] = np.arange(16) == 7
        file["note"] = np.zeros(3)
        file.attrs["env_id"] = "AntMaze_UMaze-v4"
        file.attrs["provenance"] = "a test"
    return path


@pytest.fixture
def maze_file(tmp_path):
    return write_maze_file(tmp_path)


def test_the_file_trains_and_evaluates_on_one_goal(tmp_path, maze_file, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "fixed.hdf5"
    done = relabel(maze_file, f"--output={output}", "--start_cell=3,1")
    assert done.returncode == 0, done.stderr
    assert "16 of 16 transitions in 2 episodes, 1 of which reach the goal at [-4.0, 4.0]" in (
        done.stdout
    )
    dataset = data.load_dataset(output)
    np.testing.assert_array_equal(dataset.transitions.reward, np.arange(16) == 7)
    np.testing.assert_array_equal(dataset.transitions.terminal, np.arange(16) == 7)
    assert dataset.spec.reference_scores == (0.0, 1.0)
    assert dataset.spec.max_episode_steps == 700
    with h5py.File(output) as file:
        assert file.attrs["provenance"] == "a test" and "[-4.0, 4.0]" in file.attrs["relabelled"]
    env = environments.make_from_spec(dataset.spec)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        assert np.abs(observation["desired_goal"] - [-4, 4]).max() <= 0.1 + 1e-6
        assert np.abs(observation["achieved_goal"] - [-4, -4]).max() <= 0.1 + 1e-6
    assert not env.unwrapped.continuing_task
    env.close()


BAD = {
    "no dataset": (["--output=o.hdf5"], "give `list`"),
    "no output": (["{file}"], "no --output=… is given"),
    "no file": (["absent.hdf5", "--output=o.hdf5"], "absent.hdf5 is not a file"),
    "of show": (["{file}", "--output=o.hdf5", "--json=a"], "--json belongs to `show`"),
    "output exists": (["{file}", "--output={file}"], "exists already"),
    "wall": (["{file}", "--output=o.hdf5", "--goal_cell=0,0"], "is a wall"),
    "no cell": (["{file}", "--output=o.hdf5", "--goal_cell=1"], "give row,column"),
    "one cell": (["{file}", "--output=o.hdf5", "--start_cell=1,1"], "different ones"),
    "no maze": (["{file}", "--output=o.hdf5", "--env_id=Hopper-v5"], "is not a maze"),
    "unreached": (["{file}", "--output=o.hdf5", "--goal_cell=3,3"], "reaches the goal"),
}


DRIVER = """
import json, os, sys

from offrl_jax.cli import datasets
from tests import commands

folder, cases = sys.argv[1], json.loads(sys.argv[2])
print(json.dumps({
    name: commands.run(datasets, "relabel", *flags) | {"files": os.listdir(folder)}
    for name, flags in cases.items()
}))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What the command answers to each bad input, and the files that are there then."""
    folder = tmp_path_factory.mktemp("refused")
    file = write_maze_file(folder)
    cases = {
        name: [flag.format(file=file).replace("=o.h", f"={folder}/o.h") for flag in flags]
        for name, (flags, _) in BAD.items()
    }
    command = [sys.executable, "-c", DRIVER, str(folder), json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(refused, name):
    done, message = refused[name], BAD[name][1]
    assert done["code"] == 2
    assert done["err"].count("\n") == 1 and message in done["err"], done["err"]
    assert done["files"] == ["ant.hdf5"]


def test_without_a_start_cell_episodes_start_anywhere_but_at_the_goal(tmp_path, maze_file):
    output = tmp_path / "fixed.hdf5"
    assert relabel(maze_file, f"--output={output}").returncode == 0
    with h5py.File(output) as file:
        task = json.loads(file.attrs["env_kwargs"])
    wall = [1] * 5
    assert task["maze_map"] == [
        *(wall, [1, "g", "r", "r", 1], [1, 1, 1, "r", 1], [1, "r", "r", "r", 1], wall)
    ]
