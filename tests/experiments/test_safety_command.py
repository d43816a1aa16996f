"""The safety command, in one process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import commands

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SMALL = (
    "--num_iterations=3",
    "--num_seeds=2",
    "--num_evaluation_episodes=2",
    "--config.hidden_sizes=4",
    "--config.num_worlds=4",
    "--config.num_world_steps=8",
    "--config.num_random_transitions=16",
    "--config.num_shield_actions=3",
    "--config.num_critic_steps=1",
    "--config.num_pretraining_steps=1",
    "--config.num_value_steps=1",
    "--config.num_conjugate_steps=2",
    "--config.batch_size=8",
    "--config.replay_size=100",
)
NAMES = ["CSC", "unconstrained"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("safety")


@pytest.fixture(scope="module")
def results(folder):
    whole, both = f"--output={folder / 'whole'}", "--methods=csc,unconstrained"
    half = folder / "half"
    cases = {
        "one": [both.replace(",unconstrained", ""), f"--output={half}", *SMALL],
        "whole": [both, whole, *SMALL],
        "again": [both, whole, *SMALL],
        "other": [both, whole, *SMALL, "--seed=3"],
        "unknown": ["--methods=csc,sarsa", f"--output={folder / 'none'}"],
        "twice": ["--methods=csc,csc", f"--output={folder / 'none'}"],
        "none": ["--methods=", f"--output={folder / 'none'}"],
        "outside": ["--config.accident_limit=2", f"--output={folder / 'none'}"],
        "task": ["--task=boat", f"--output={folder / 'none'}"],
        "unused": [
            *("--methods=lagrangian,unconstrained", "--config.shielded=true"),
            f"--output={folder / 'none'}",
        ],
        "unwritable": ["--output=/proc/nope"],
        "file": [f"--output={__file__}"],
        "no_episode": [
            *("--methods=unconstrained", f"--output={folder / 'no_episode'}", *SMALL),
            *("--config.num_worlds=2", "--config.num_world_steps=2", "--num_seeds=1"),
        ],
    }
    return commands.run_apart("experiments.safety", cases)


def test_it_leaves_a_table_figures_and_every_iteration(folder, results):
    whole, output = results["whole"], folder / "whole"
    assert whole["code"] == 0, whole["err"]
    assert {path.name for path in output.iterdir()} == {
        *("config.json", "environment.json", "curves.jsonl", "safety.json"),
        *("accidents.png", "value_and_safety.png"),
    }
    lines = map(json.loads, (output / "curves.jsonl").read_text().splitlines())
    curves = {line["method"]: line["evaluations"] for line in lines}
    assert list(curves) == NAMES
    rows = {row["method"]: row for row in json.loads((output / "safety.json").read_text())}
    for name, found in curves.items():
        accidents = np.array(found["episodes/accidents"])
        assert accidents.shape == (2, 3)
        total = accidents.sum(1) + np.array(found["random/accidents"])
        assert rows[name]["accidents"]["mean"] == pytest.approx(total.mean())
        final = np.mean(found["final/return"])
        assert rows[name]["return"]["mean"] == pytest.approx(final, rel=1e-6)
        assert f"| {name} | " in whole["out"]
    for figure in ("accidents.png", "value_and_safety.png"):
        assert (output / figure).read_bytes().startswith(b"\x89PNG")
    methods = json.loads((output / "config.json").read_text())["methods"]
    assert [methods[name]["shielded"] for name in NAMES] == [True, False]
    assert methods["CSC"]["hidden_sizes"] == [4]


def test_a_finished_run_trains_nothing_again(results):
    again = results["again"]
    assert again["code"] == 0 and not again["err"]
    assert again["out"].strip() == results["whole"]["out"].split("\n\n", 1)[1].strip()


def test_methods_do_not_depend_on_their_company(folder, results):
    assert results["one"]["code"] == 0, results["one"]["err"]
    alone, whole = (
        json.loads((folder / name / "curves.jsonl").read_text().splitlines()[0])
        for name in ("half", "whole")
    )
    assert alone == whole


def test_where_no_episode_ends_nothing_is_said_of_one(results):
    """Its accidents are none, so that there is no ratio either."""
    done = results["no_episode"]
    assert done["code"] == 0 and "nan" not in done["err"] + done["out"]
    assert "Warning" not in done["err"]
    assert "point: 12 steps, seed 0\n" in done["out"]
    assert done["out"].splitlines()[-3].endswith("| – |")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "other settings, see its config.json"),
        ("unknown", "there is no method 'sarsa'; there are csc, csc_pointwise"),
        ("twice", "csc is asked for twice"),
        ("none", "methods needs at least one entry"),
        ("outside", "accident_limit=2.0 is outside [0, 1]"),
        ("task", "point|car"),
        ("unused", "config.shielded=True is used by none of the chosen methods"),
        ("unwritable", "error: output /proc/nope cannot be"),
        ("file", "test_safety_command.py is a file; give a directory"),
    ],
)
def test_bad_flags_get_one_line_and_write_nothing(folder, results, name, words):
    done = results[name]
    assert done["code"] == 2, done
    assert done["err"].count("\n") == 1 and done["err"].startswith("error: "), done["err"]
    assert words in done["err"]
    assert not (folder / "none").exists()


def test_help_lists_methods_and_settings():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.safety", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    for words in ("python -m experiments.safety", "ordinary_sign", "--config.accident_limit"):
        assert words in done.stdout, words
    assert "Traceback" not in done.stderr
