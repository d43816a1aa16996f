"""The comparison of sides that print what they measured, or what the test wants them to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DRIVER = """
import json, shlex, subprocess, sys
from pathlib import Path

from experiments.benchmarks import compare as command
from tests import commands

folder = Path(sys.argv[1])
SIDE = '''
import json, sys
from pathlib import Path
name, folder, *rates = sys.argv[1:]
log = Path(folder) / "log"
turn = log.read_text().count(name) if log.exists() else 0
with log.open("a") as file:
    file.write(name)
print("warming up")
print(json.dumps(["bc"]))
print(json.dumps({"algorithm": "only " + name, "updates_per_second": 1}))
print(json.dumps({"algorithm": "bc", "updates_per_second": float(rates[turn]), "more": [1]}))
'''


def side(name, *rates):
    words = [sys.executable, "-c", SIDE, name, str(folder), *rates]
    return f"--side={name}={shlex.join(words)}"


def python(name, code):
    return f"--side={name}={shlex.join([sys.executable, '-c', code])}"


def printing(rate):
    row = "{'algorithm': 'bc', 'updates_per_second': %s}" % rate
    code = f"import json, os, sys; print(json.dumps({row}))"
    command._benchmark = lambda: [sys.executable, "-c", code]


results = {}


def run(name, *flags):
    results[name] = commands.run(command, *flags)


other = python("other", "print()")
run("interleaved", side("a", "10", "20", "40"), side("b", "30", "20", "80"), "--repeats=3")
run("failing", python("bad", "import sys; print(file=sys.stderr); sys.exit('no room')"), other)
run("silent", python("bad", "import sys; sys.exit(7)"), other)
run("no command", "--side=absent=/no/such/command", other)
run("nothing in common", python("one", "print('{}')"), other)
run("no name", "--side=python", other)
run("one side", other)
run("twice", other, other)
run("nothing")
run("both", other, "--commits=HEAD,HEAD~0")
printing("len(os.environ.get('XLA_FLAGS', '')) + 1")
run("flags", "--flags=|--one=1 --two=2", "--repeats=1")
inside = f"os.path.exists('offrl_jax/cli/train.py') and os.getcwd().startswith({str(folder)!r})"
printing(f"2 if {inside} else 1")
run("commits", "--commits=HEAD,HEAD~0", "--repeats=1")
printing("sys.exit('no room')")
run("failing commits", "--commits=HEAD,HEAD~0", "--repeats=1")
run("no commit", "--commits=HEAD,nonsense")
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def results(folder):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "XLA_FLAGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_sides_run_in_turns_and_ratios_are_of_the_same_turn(results, folder):
    assert results["interleaved"]["code"] == 0, results["interleaved"]["err"]
    assert (folder / "log").read_text() == "abbaab"
    header, _, row, *rest = results["interleaved"]["out"].splitlines()
    assert header == "| algorithm | a, updates/s | b, updates/s | b / a (lowest to highest) |"
    # The ratios are 3, 1 and 2, their median other than that of the medians, 1.5.
    assert row == "| bc | 20.0 | 30.0 | 2.000 (1.000 to 3.000) |"
    assert not any(line.startswith("|") for line in rest)  # what one side alone measured


REFUSED = {
    "failing": (3, "side bad ended with exit code 1: no room"),
    "silent": (3, "side bad ended with exit code 7: it said nothing"),
    "no command": (3, "side absent cannot be run"),
    "failing commits": (3, "ended with exit code 1: no room"),
    "nothing in common": (2, "no algorithm was measured by each of one, other"),
    "no name": (2, "side=python is not NAME=COMMAND"),
    "one side": (2, "give two or more different ones"),
    "twice": (2, "give two or more different ones"),
    "nothing": (2, "give either sides, commits or flags"),
    "both": (2, "give either sides, commits or flags"),
    "no commit": (2, "nonsense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_told_in_one_sentence(results, name):
    code, sentence = REFUSED[name]
    assert results[name]["code"] == code
    last = results[name]["err"].splitlines()[-1]
    assert last.startswith("error: ") and sentence in last
    assert not results[name]["out"]


def test_sides_with_nothing_in_common_run_once(results):
    assert "1 of " in results["nothing in common"]["err"]
    assert "2 of " not in results["nothing in common"]["err"]


def test_sets_of_flags_are_sides(results):
    *_, row, _, _ = results["flags"]["out"].splitlines()
    assert row == "| bc | 1.0 | 16.0 | 16.000 (16.000 to 16.000) |"


def test_commits_are_checked_out_and_removed_again(results, folder):
    assert results["commits"]["code"] == 0, results["commits"]["err"]
    *_, row, _, _ = results["commits"]["out"].splitlines()
    assert row == "| bc | 2.0 | 2.0 | 1.000 (1.000 to 1.000) |"
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, cwd=ROOT)
    assert listed.stdout and str(folder) not in listed.stdout
    assert [path.name for path in folder.iterdir()] == ["log"]
