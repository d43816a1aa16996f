"""The over-estimation command: one process runs it in many ways, and the tests read what it did.

A process of its own, since flags are global and another command's share their names.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DRIVER = """
import dataclasses, json, shutil, sys
from pathlib import Path

import numpy as np

from experiments import overestimation as command
from offrl_jax import learner
from offrl_jax.networks.modules import MLP
from tests import commands
from tests.toy import toy_dataset

folder = Path(sys.argv[1])
steps, shared, own = command.SCALES["quick"]
tiny = {"actor_network": MLP((8,)), "critic_network": MLP((8,)), "batch_size": 8}
command.SCALES["quick"] = (steps, shared | tiny, own)
command.data.load_dataset = lambda *args, **options: toy_dataset()
programs, key_shapes, diverging = [], [], []
trained, learn, evaluate = command._trained, learner.learn, command.Evaluator.__call__


def counted(group, *rest):
    programs.append([row.name for row in group])
    return trained(group, *rest)


def recorded(*args, **options):
    if args[0] is not command.diagnostics.bc:
        key_shapes.append(args[4].shape)
    return learn(*args, **options)


def evaluated(*args):
    rollouts = evaluate(*args)
    if diverging:
        nowhere = np.full_like(rollouts.learned_value, np.nan)
        rollouts = dataclasses.replace(rollouts, learned_value=nowhere)
    return rollouts


command._trained, learner.learn = counted, recorded
command.Evaluator.__call__ = evaluated
results = {}


def run(name, output, *flags):
    programs.clear(), key_shapes.clear()
    results[name] = commands.run(command, f"--output={folder / output}", *flags) | {
        "programs": list(programs),
        "key_shapes": sorted(set(key_shapes)),
    }


small = ["--num_steps=4", "--num_evaluations=2", "--num_evaluation_episodes=2", "--num_seeds=2"]
both = ["--methods=cql_h,ensemble_2", "--conservative_weights=1,5", *small]
run("whole", "whole", *both)


def copied(name, change):
    shutil.copytree(folder / "whole", folder / name)
    path = folder / name / "curves.jsonl"
    path.write_text(change(path.read_text()))


run("again", "whole", *both)
copied("half", lambda text: "".join(x for x in text.splitlines(True) if "Ensemble" not in x))
run("half", "half", *both)
copied("cut", lambda text: text[:-40])
run("cut", "cut", *both)
copied("other", lambda text: text)
run("other", "other", *both, "--seed=3")
run("alone", "alone", "--methods=cql_h", "--conservative_weights=5", *small)
diverging.append(True)
run("diverged", "diverged", "--methods=ensemble_2", *small)
for name, flags in {
    "unknown method": ["--methods=cql_h,sarsa"],
    "no number": ["--conservative_weights=1,heavy"],
    "no method": ["--methods="],
    "no weight": ["--conservative_weights="],
    "negative weight": ["--conservative_weights=-1"],
    "twice": ["--conservative_weights=5,5"],
    "huge seed": ["--seed=4294967295", "--num_seeds=2"],
    "unequal evaluations": ["--num_steps=10", "--num_evaluations=3"],
}.items():
    run(name, name.replace(" ", "_"), *small[2:], *flags)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("overestimation")


@pytest.fixture(scope="module")
def results(folder):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def evaluations(path):
    """By method."""
    lines = map(json.loads, (path / "curves.jsonl").read_text().splitlines())
    return {line["method"]: line["evaluations"] for line in lines}


NAMES = ["CQL(H), w = 1", "CQL(H), w = 5", "Ensemble(2)"]


def test_settings_that_differ_in_numbers_share_a_program(results):
    whole = results["whole"]
    assert whole["code"] == 0, whole["err"]
    assert whole["programs"] == [NAMES[:2], NAMES[2:]]
    assert whole["key_shapes"] == [[1, 2], [2, 2]]  # H × S
    assert "3 methods, 2 programs to train" in whole["out"]


def test_the_files_agree(folder, results):
    output = folder / "whole"
    assert {path.name for path in output.iterdir()} == {
        "config.json",
        "environment.json",
        "curves.jsonl",
        *(f"overestimation.{ending}" for ending in ("json", "png")),
    }
    curves = evaluations(output)
    assert list(curves) == NAMES
    rows = {row["method"]: row for row in json.loads((output / "overestimation.json").read_text())}
    assert list(rows) == NAMES
    for name, run in curves.items():
        assert [row["step"] for row in run] == [2, 4]
        last = run[-1]
        learned, actual = np.array(last["learned_value"]), np.array(last["actual_value"])
        assert learned.shape == (2,)
        np.testing.assert_allclose(last["value_error"], learned - actual)
        assert rows[name]["learned"] == pytest.approx(learned.mean())
        assert rows[name]["actual"] == pytest.approx(actual.mean())
        assert rows[name]["difference"] == pytest.approx((learned - actual).mean())
        assert float(rows[name]["judged"]) == pytest.approx(np.mean(last["score"]))
        assert rows[name]["judged_by"] == "score"
        shown = f"| {name} | {learned.mean():.2f} | {actual.mean():.2f} |"
        assert shown in results["whole"]["out"]
        assert len(last["diagnostics/policy_gap"]) == 2
    assert (output / "overestimation.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((output / "config.json").read_text())
    assert list(config["rows"]) == NAMES
    weights = [config["rows"][name][1].get("conservative_weight") for name in NAMES]
    assert weights == [1.0, 5.0, None]
    environment = json.loads((output / "environment.json").read_text())
    assert "--conservative_weights=1,5" in environment["command"]


def test_a_finished_run_trains_nothing_again(results):
    again = results["again"]
    assert again["code"] == 0 and again["programs"] == []
    assert again["out"].split("\n\n", 1)[1] == results["whole"]["out"].split("\n\n", 1)[1]


def test_a_stopped_run_goes_on_with_what_is_missing(folder, results):
    half = results["half"]
    assert half["code"] == 0 and half["programs"] == [NAMES[2:]]
    for name in ("overestimation.json", "curves.jsonl"):
        assert (folder / "half" / name).read_text() == (folder / "whole" / name).read_text()


def test_a_line_cut_off_midway_is_trained_again(folder, results):
    """Killed while it wrote."""
    cut = results["cut"]
    assert cut["code"] == 0, cut["code"]
    assert cut["programs"] == [NAMES[2:]]
    assert evaluations(folder / "cut") == evaluations(folder / "whole")


def test_other_settings_are_refused_and_overwrite_nothing(folder, results):
    other = results["other"]
    assert_refused(other, "other settings, see its config.json; give another")
    for path in (folder / "whole").iterdir():
        assert (folder / "other" / path.name).read_bytes() == path.read_bytes()


def test_a_row_of_one_program_equals_the_row_alone(folder, results):
    assert results["alone"]["programs"] == [["CQL(H)"]]
    together = evaluations(folder / "whole")["CQL(H), w = 5"]
    alone = evaluations(folder / "alone")["CQL(H)"]
    light = evaluations(folder / "whole")["CQL(H), w = 1"]
    for a, b, c in zip(together, alone, light, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-5, err_msg=name)
        assert not np.allclose(a["learned_value"], c["learned_value"], rtol=1e-4)


def test_a_method_of_which_every_seed_diverged_is_shown_as_such(folder, results):
    diverged = results["diverged"]
    assert diverged["code"] == 0, diverged["code"]
    assert re.search(r"\| Ensemble\(2\) \| diverged \| [-\d.]+ \| diverged \|", diverged["out"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown method", "there is no method 'sarsa'; there are cql_h, cql_eqn1"),
        ("no number", "conservative_weights=1,heavy are not all numbers"),
        ("no method", "at least one entry"),
        ("no weight", "at least one entry"),
        ("huge seed", "leaves the range of 0 to 2**32 - 1"),
        ("twice", "CQL(H), w = 5 is asked for twice"),
        ("negative weight", "conservative_weight=-1.0 is outside"),
        ("unequal evaluations", "num_steps=9 can"),
    ],
)
def test_bad_flags_get_one_line(results, name, words):
    assert_refused(results[name], words)


@pytest.mark.parametrize(
    "name", ["unknown method", "no weight", "unequal evaluations", "huge seed"]
)
def test_bad_flags_write_nothing(folder, results, name):
    assert not (folder / name.replace(" ", "_")).exists()


def assert_refused(done, words):
    assert done["code"] == 2, (done["code"], done["err"])
    assert done["err"].count("\n") == 1 and done["err"].startswith("error: "), done["err"]
    assert words in done["err"]
    assert done["programs"] == []


def test_help_explains_the_table_and_its_flags():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.overestimation", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    for words in ("python -m experiments.overestimation", "--conservative_weights", "ensemble_20"):
        assert words in done.stdout, words
    assert "Traceback" not in done.stderr
