"""The parser of command lines, and the sentences of its errors."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from offrl_jax.cli import train  # noqa: F401  (defines the flags)
from offrl_jax.cli.command_line import FAILED_CODE, _algorithm_in, _fail, as_flags

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], None),
        (["--num_steps=5"], None),
        (["--algorithm=bc"], "bc"),
        (["-algorithm", "bc", "--seed=1"], "bc"),
        (["--algorithm=bc", "--algorithm=sac"], "sac"),
        (["--algorithm"], ""),
    ],
)
def test_the_algorithm_is_found_before_its_flags_are_defined(arguments, name):
    assert _algorithm_in(["train", *arguments]) == name


NAMES = "num_seeds", "run_dir", "seed", "output", "env_id", "config.discount", "config.num_critics"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("num_seeds=3 is wrong; give run_dir=…", "--num_seeds=3 is wrong; give --run_dir=…"),
        ("(num_seeds=3, seed=1)", "(--num_seeds=3, --seed=1)"),
        ("give one as environment=…", "give one as --env_id=…"),
        ("leave num_seeds out", "leave --num_seeds out"),
        ("discount=1.5 is outside [0, 1]", "--config.discount=1.5 is outside [0, 1]"),
        ("num_critics is empty", "--config.num_critics is empty"),
        ("give --env_id or --config.discount=1", "give --env_id or --config.discount=1"),
        ('both seed=1 and config["discount"]', "both --seed=1 and --config.discount"),
        ('config["depth"]', 'config["depth"]'),
        ("make the same call again", "run the same command again"),
        ("the same call with run_dir=/x resumes", "the same command with --run_dir=/x resumes"),
        # words of English, names of others, code, files
        ("the environment names no seed", "the environment names no seed"),
        ("seed 3 of the output diverged", "seed 3 of the output diverged"),
        ("policy=3 and num_seed=3", "policy=3 and num_seed=3"),
        ("num_seeds==3, num_seeds()", "num_seeds==3, num_seeds()"),
        ("'num_seeds=3' and `env_id`", "'num_seeds=3' and `env_id`"),
        ("the runs' num_seeds=3 isn't 4", "the runs' --num_seeds=3 isn't 4"),
        ("/a/num_seeds=3/run_dir/x", "/a/num_seeds=3/run_dir/x"),
        ("umaze,num_seeds=3 holds no run", "umaze,num_seeds=3 holds no run"),
        ("run_dir.json or num_seeds/x", "run_dir.json or num_seeds/x"),
    ],
)
def test_sentences_about_arguments_become_sentences_about_flags(sentence, expected):
    assert as_flags(sentence, NAMES) == expected


def test_a_path_that_the_user_typed_is_no_flag():
    words = ["seed=1/x", "--run_dir=runs/num_seeds=3 b"]
    found = as_flags("seed=1/x and run_dir=runs/num_seeds=3 b differ in seed=1", NAMES, words)
    assert found == "seed=1/x and --run_dir=runs/num_seeds=3 b differ in --seed=1"


def test_an_exit_code_is_told_though_nobody_reads_the_sentence(monkeypatch):
    class Unread(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Unread())
    with pytest.raises(SystemExit) as exit:
        _fail("no room", FAILED_CODE)
    assert exit.value.code == FAILED_CODE


def test_a_reader_who_stops_early_gets_no_stack_trace():
    command = f"{sys.executable} -m offrl_jax.cli train --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
