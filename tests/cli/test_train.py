"""The command line as a user meets it: one process runs it in many ways, a whole run among them."""

import json

import h5py
import numpy as np
import pytest

from offrl_jax.presets.cql import PRESETS
from offrl_jax.runs.policy import load_policy
from tests.commands import run_apart

WHOLE = (
    "--algorithm=cql",
    "--dataset=pointmaze/umaze-3000",
    "--num_steps=20",
    "--num_seeds=2",
    "--num_evaluations=2",
    "--num_evaluation_episodes=1",
    "--config.conservative_weight=2.5",
    "--config.actor_network=16x16",
    "--config.critic_network=16x16",
)
BAD_FLAGS = {  # flags, and words of the sentence
    "algorithm": (["--algorithm=cq1"], "did you mean cql?"),
    "dataset": (["--dataset=pointmaze/umase"], "pointmaze/umaze"),
    "field": (
        ["--config.conservativ_weight=1"],
        "did you mean --config.conservative_weight?",
    ),
    "range": (["--config.discount=1.5"], "--config.discount=1.5 is outside [0, 1]"),
    "type": (["--config.num_critics=two"], "num_critics"),
    "steps": (["--num_steps=10", "--num_evaluations=3"], "--num_steps=9 can"),
    "word": (["run"], "'run' is not a flag"),
    "absent file": (["--dataset=absent.npz"], "absent.npz"),
    "no network": (["--dataset=D4RL/door/human-v2"], "D4RL/door/human-v2"),
}
BAD_FILES = {  # columns, and words of the sentence
    "missing key": ({"rewards": None}, "rewards"),
    "lengths disagree": ({"actions": np.zeros((39, 3), np.float32)}, "39"),
    "NaN": ({"rewards": np.full(40, np.nan, np.float32)}, "not finite"),
    "another width than the environment": (
        {"observations": np.zeros((40, 12), np.float32)},
        "12",
    ),
}


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def results(folder):
    cases = {"whole": [*WHOLE, f"--run_dir={folder / 'whole'}"]}
    for name, (flags, _) in BAD_FLAGS.items():
        cases[name] = ["--dataset=pointmaze/umaze-600", f"--run_dir={folder / 'refused'}", *flags]
    for name, (changes, _) in BAD_FILES.items():
        path = folder / f"{name}.hdf5"
        write_hdf5(path, **changes)
        cases[name] = [f"--dataset={path}", f"--run_dir={folder / 'refused'}"]
    return run_apart(
        "train",
        cases,
        OFFRL_JAX_CACHE=str(folder / "cache"),
        MINARI_DATASETS_PATH=str(folder / "minari"),
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )


def test_a_run_ends_with_its_table_and_directory(folder, results):
    done, run_dir = results["whole"], folder / "whole"
    assert done["code"] == 0, done
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
        assert words in done["out"], words
    assert "step 20/20" in done["err"] and "INFO" not in done["err"]
    config = json.loads((run_dir / "config.json").read_text())
    assert config["config"]["conservative_weight"] == 2.5  # the flag
    preset = PRESETS["pointmaze"].config
    assert config["config"]["target_update_rate"] == preset["target_update_rate"]
    assert config["preprocessing"]["reward_scale"] == PRESETS["pointmaze"].reward_scale
    assert len((run_dir / "evaluations.jsonl").read_text().splitlines()) == 2
    observation = {"observation": np.zeros(4), "desired_goal": np.zeros(2)}
    assert load_policy(run_dir, 1)(observation).shape == (2,)


@pytest.mark.parametrize("name", [*BAD_FLAGS, *BAD_FILES])
def test_bad_flags_and_files_get_one_line(folder, results, name):
    done, (_, words) = results[name], (BAD_FLAGS | BAD_FILES)[name]
    assert done["code"] == 2
    last = done["err"].splitlines()[-1]
    assert last.startswith("error: ") and words in last, done
    assert "Traceback" not in done["err"]
    assert not (folder / "refused").exists()
