"""`offrl` as a stranger meets it: its commands, their help and their flags."""

import re
import resource
import subprocess
import sys
from importlib.metadata import version

import pytest

from offrl_jax.cli.__main__ import COMMANDS
from tests.markdown import ROOT, commands, flags_of, unknown_flags

SECONDS = 0.8  # of the CPU
DIFFER = {  # flag: why it has another help or default in some command
    "algorithm": "what to train, or what of the user's own has trained the runs",
    "dataset": "one name or, in sweep, several; select has the runs' own",
    "output": "each command writes something else",
}


def offrl(*words):
    """What the command did and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "offrl_jax.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def module_of(command):
    return f"offrl_jax.cli.{command.replace('-', '_')}"


@pytest.fixture(scope="module")
def helps():
    return {name: offrl(name, "--help") for name in COMMANDS}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_commands_are_listed(words):
    done, _ = offrl(*words)
    assert done.returncode == 0 and all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_the_version_is_printed():
    done, _ = offrl("--version")
    assert done.stdout == f"offrl-jax {version('offrl-jax')}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean train?"),
        (["frobnicate"], "the commands are train, sweep"),
        (["train", "--num_step=5"], "did you mean --num_steps?"),
        (["compare", "--frobnicate"], "see --help"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest_name(words, hint):
    done, _ = offrl(*words)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no ")
    assert hint in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_opens_with_examples_and_fits_the_page(helps, name):
    done, _ = helps[name]
    assert done.returncode == 0 and done.stderr == ""
    first, blank, *lines = done.stdout.splitlines()
    assert first.endswith(".") and not blank
    assert all(line.startswith(f"  offrl {name} ") for line in lines[1:3])
    examples = commands("\n".join(line[2:] for line in lines[:3]))
    assert len(examples) == 3 and all(not unknown_flags(*example) for example in examples)
    assert max(map(len, [first, *lines])) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_commands_own_flags_alone(helps, name):
    done, _ = helps[name]
    listed = re.findall(r"^  --(?:\[no\])?(\w+)", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(flag["name"] for flag in flags_of(module_of(name)))
    assert "verbosity" not in done.stdout and "--config." not in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_quickly(helps, name):
    _, seconds = helps[name]
    assert seconds < SECONDS


def test_help_of_an_algorithm_lists_its_settings():
    for name in ("train", "sweep"):
        done, _ = offrl(name, "--algorithm=cql", "--help")
        assert "--config.conservative_weight=X" in done.stdout and "(default: 5.0)" in done.stdout
        assert ("--grid.conservative_weight=A,B" in done.stdout) == (name == "sweep")
    assert "conservative_weight" not in offrl("train", "--algorithm=bc", "--help")[0].stdout


def test_one_flag_has_one_meaning_in_all_commands():
    found = {}
    for name in COMMANDS:
        for flag in flags_of(module_of(name)):
            meaning = flag["help"], flag["boolean"], str(flag["default"])
            found.setdefault(flag["name"], set()).add(meaning)
    assert {name for name, meanings in found.items() if len(meanings) > 1} == DIFFER.keys()


def test_what_flags_repeat_of_the_library_is_the_same():
    code = """
import dataclasses
import offrl_jax.cli.select as select
from offrl_jax.api import policy_scores, prepare
from offrl_jax import devices
from offrl_jax.cli import run_flags
from offrl_jax.presets.preset import DOMAINS
from offrl_jax.runs import lost_seeds
flags = select.FLAGS
assert run_flags.DOMAINS == DOMAINS
assert run_flags.PRECISIONS == tuple(devices.MATMUL_PRECISIONS)
assert run_flags.DIVERGENCE_LIMIT == lost_seeds.LIMIT
assert run_flags.PRESET_FIELDS == prepare.PRESET_FIELDS
assert select.SCORES == policy_scores.SCORES
for field in dataclasses.fields(policy_scores.Settings):
    assert field.name in select.PASSED_ON
    assert flags[field.name].default == field.default, field
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
