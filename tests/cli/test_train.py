"""The command line as a user meets it: a whole run, the help, and bad input in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from offrl_jax.presets.cql import PRESETS
from offrl_jax.runs.policy import load_policy

ROOT = Path(__file__).parents[2]


def train(tmp_path, *flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "offrl_jax.cli.train", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OFFRL_JAX_CACHE": str(tmp_path / "cache")} | environment,
    )


def test_a_run_ends_with_its_table_and_directory(tmp_path):
    run_dir = tmp_path / "run"
    done = train(
        tmp_path,
        "--algorithm=cql",
        "--dataset=pointmaze/umaze-3000",
        "--num_steps=20",
        "--num_seeds=2",
        "--num_evaluations=2",
        "--num_evaluation_episodes=1",
        "--config.conservative_weight=2.5",
        "--config.actor_hidden_sizes=16,16",
        "--config.critic_hidden_sizes=16,16",
        f"--run_dir={run_dir}",
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "3,000 transitions",
        "score",
        "learned − actual value",
        "at states of the data",
        "Q(policy) − Q(data)",
        "behaviour NLL",
        "interquartile mean",
        "95% interval",
        "the data's own average",
        "wall time",
        "training",
        "beside training",
        "steps/s",
        str(run_dir),
    ):
        assert words in done.stdout, words
    assert "step 20/20" in done.stderr and "INFO" not in done.stderr
    config = json.loads((run_dir / "config.json").read_text())
    assert config["config"]["conservative_weight"] == 2.5  # the flag
    preset = PRESETS["pointmaze"].config
    assert config["config"]["target_update_rate"] == preset["target_update_rate"]
    assert config["preprocessing"]["reward_scale"] == PRESETS["pointmaze"].reward_scale
    assert len((run_dir / "evaluations.jsonl").read_text().splitlines()) == 2
    observation = {"observation": np.zeros(4), "desired_goal": np.zeros(2)}
    assert load_policy(run_dir, 1)(observation).shape == (2,)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--algorithm=cq1"], "did you mean cql?"),
        (["--dataset=pointmaze/umase"], "pointmaze/umaze"),
        (["--config.conservativ_weight=1"], "did you mean --config.conservative_weight?"),
        (["--config.discount=1.5"], "--config.discount=1.5 is outside [0, 1]"),
        (["--config.num_critics=two"], "num_critics"),
        (["--num_steps=10", "--num_evaluations=3"], "--num_steps=9 can"),
        (["run"], "'run' is not a flag"),
        (["--dataset=absent.npz"], "absent.npz"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_flags_get_one_line(tmp_path, flags, words):
    run_dir = tmp_path / "run"
    small = [] if any("dataset" in flag for flag in flags) else ["--dataset=pointmaze/umaze-600"]
    done = train(tmp_path, *small, f"--run_dir={run_dir}", *flags)
    assert_refused(done, words)
    assert not run_dir.exists()


def assert_refused(done, words):
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and words in last, done.stderr
    assert "Traceback" not in done.stderr


def write_hdf5(path, **changes):
    n = 40
    columns = {
        "observations": np.zeros((n, 11), np.float32),
        "actions": np.zeros((n, 3), np.float32),
        "rewards": np.zeros(n, np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(1, n + 1) % 20 == 0,
    } | changes
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if column is not None:
                file[name] = column
        file.attrs["env_id"] = "Hopper-v5"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": None}, "rewards"),
        ({"actions": np.zeros((39, 3), np.float32)}, "39"),
        ({"rewards": np.full(40, np.nan, np.float32)}, "not finite"),
        ({"observations": np.zeros((40, 12), np.float32)}, "12"),
    ],
    ids=["missing key", "lengths disagree", "NaN", "another width than the environment"],
)
def test_bad_files_get_one_line(tmp_path, changes, words):
    path = tmp_path / "bad.hdf5"
    write_hdf5(path, **changes)
    done = train(tmp_path, f"--dataset={path}", f"--run_dir={tmp_path / 'run'}")
    assert_refused(done, words)
    assert not (tmp_path / "run").exists()


def test_a_hub_dataset_without_network_gets_one_line(tmp_path):
    done = train(
        tmp_path,
        "--dataset=D4RL/door/human-v2",
        MINARI_DATASETS_PATH=str(tmp_path / "minari"),
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert_refused(done, "D4RL/door/human-v2")
