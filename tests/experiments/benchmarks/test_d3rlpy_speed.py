"""The command that measures d3rlpy, where there is no d3rlpy, nor anything of this package."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BARE = """
import runpy, sys

for absent in ("d3rlpy", "torch", "jax", "absl", "offrl_jax"):
    sys.modules[absent] = None
runpy.run_module("experiments.benchmarks.d3rlpy_speed", run_name="__main__")
"""


def run(*flags):
    return subprocess.run(
        [sys.executable, "-c", BARE, *flags], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "d3rlpy cannot be imported"),
        (("--algorithms=iql,sarsa",), "'sarsa' is not one of bc, td3_bc, iql"),
        (("--seconds=0",), "'0' is no positive number of seconds"),
        (("--seconds=long",), "'long' is no positive number of seconds"),
        (("--steps=5",), "unrecognized arguments: --steps=5"),
    ],
    ids=["no d3rlpy", "unknown algorithm", "no time", "no number", "unknown flag"],
)
def test_bad_input_gets_one_line(flags, words):
    done = run(*flags)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr
    assert not done.stdout


def test_help_says_what_is_in_the_number():
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for words in (
        "python -m experiments.benchmarks.d3rlpy_speed",
        "--algorithms",
        "sampling_share",
        "sac",
    ):
        assert words in done.stdout, words
