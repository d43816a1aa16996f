"""A sweep in one call: in memory, in a directory, by the command, and its sentences of refusal."""

import json
import os
from functools import partial

import jax
import numpy as np
import pytest

from offrl_jax.api.compare import compare
from offrl_jax.api.run import train
from offrl_jax.api.sweep import sweep
from offrl_jax.runs.outcomes import Stopped
from offrl_jax.types import InputError
from tests.commands import SMALL, run_apart
from tests.toy import Toy, rule, toy_dataset

TINY = {"network": (8,), "batch_size": 8}
SHORT = {"num_steps": 10, "num_evaluations": 1, "num_evaluation_episodes": 2, "progress": False}
RATES = {"learning_rate": [1e-2, 1e-3]}
GRID = RATES | {"network": [[8], (8, 8)]}
bc = partial(sweep, "bc", config={"batch_size": 8}, num_seeds=2, seed=5, **SHORT)


@pytest.fixture(scope="module")
def found():
    return bc(toy_dataset(), grid=GRID)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return bc(toy_dataset(), grid=GRID, sweep_dir=tmp_path_factory.mktemp("sweeps") / "bc")


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_sweep_prints_as_a_table_and_has_the_best_run(found):
    shown = repr(found)
    assert shown.splitlines()[0] == "toy" and "chosen from 4 settings" in shown
    assert "(seed=7)" in shown  # the first that no run has used
    means = {name: run.evaluations["score"][-1].mean() for name, run in found.runs.items()}
    assert found.best is found.runs[max(means, key=means.get)] and len(means) == 4
    assert found.best is found.best_on("toy")
    assert len(compare(list(found.runs.values())).scores["toy, score"]) == 4
    assert repr(found.runs).startswith("Runs(4 of bc, the first 'toy,learning_rate=0.01,network=8'")


def test_in_memory_nothing_is_written(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    found = bc(toy_dataset(), grid=RATES)
    assert not os.listdir() and found.path is None and capfd.readouterr() == ("", "")
    bc(toy_dataset(), grid=RATES, progress=True)
    assert "job 1 of 1: toy\nstep 10/10" in capfd.readouterr().err


def test_each_run_is_the_one_that_is_trained_alone(found):
    run = found.runs["toy,learning_rate=0.001,network=8x8"]
    config = {"batch_size": 8, "learning_rate": 1e-3, "network": (8, 8)}
    alone = train("bc", toy_dataset(), config=config, num_seeds=2, seed=5, **SHORT)
    assert run.settings == alone.settings and run.dataset is not None
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), run.state, alone.state)
    np.testing.assert_allclose(
        run.evaluations["episode_returns"], alone.evaluations["episode_returns"], rtol=1e-4
    )
    assert run.policy(1)(np.ones(2)).shape == (2,)


def test_a_directory_holds_what_memory_does(found, stored):
    assert (stored.path / "table.txt").read_text() == f"{found}\n" == f"{stored}\n"
    assert list(stored.runs) == list(found.runs)
    for name, run in found.runs.items():
        again = stored.runs[name]
        assert again.path == stored.path / "runs" / name and again.settings == run.settings
        assert_equal(again.state, run.state)
        assert_equal(again.evaluations, run.evaluations)
    assert_equal(stored.best.state, found.best.state)


def test_the_same_call_trains_nothing_again(stored):
    before = {path: path.stat().st_mtime_ns for path in stored.path.glob("runs/*/*")}
    again = bc(toy_dataset(), grid=GRID, sweep_dir=stored.path)
    assert repr(again) == repr(stored)
    assert before == {path: path.stat().st_mtime_ns for path in stored.path.glob("runs/*/*")}
    with pytest.raises(InputError, match="holds another sweep"):
        bc(toy_dataset(), grid=RATES, sweep_dir=stored.path)


def test_a_stopped_sweep_says_how_to_resume(tmp_path):
    words = rf"job 1 of 2 stopped at step 0 of 10.*; the same call with sweep_dir={tmp_path}"
    with pytest.raises(Stopped, match=words):
        bc(toy_dataset(), grid=GRID, sweep_dir=tmp_path / "sweep", stop=lambda: True)
    with pytest.raises(Stopped, match="and not saved; give sweep_dir to make a sweep that can be"):
        bc(toy_dataset(), grid=GRID, stop=lambda: True)


def test_the_command_leaves_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    by_command, by_call = tmp_path / "command", tmp_path / "call"
    flags = [*SMALL, "--algorithm=bc", "--grid.learning_rate=1e-3,3e-4", "--runs_per_job=2"]
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    done = run_apart("sweep", {"it": [*flags, f"--sweep_dir={by_command}"]})
    assert done["it"]["code"] == 0, done
    sweep(
        "bc",
        "pointmaze/umaze-600",
        grid={"learning_rate": np.array([1e-3, 3e-4])},
        config=TINY,
        runs_per_job=2,
        num_steps=20,
        num_seeds=2,
        num_evaluations=2,
        num_evaluation_episodes=1,
        sweep_dir=by_call,
        progress=False,
    )
    names = "sweep.json", "table.txt", "table.json", "table.png"
    runs = [path.relative_to(by_call) for path in by_call.glob("runs/*")]
    names = [
        *names,
        *(run / file for run in runs for file in ("config.json", "policy/weights.npz")),
    ]
    assert len(names) == 8
    for name in names:
        assert (by_command / name).read_bytes() == (by_call / name).read_bytes(), name


def test_several_datasets_and_an_environment_of_ones_own():
    easy, hard = toy_dataset(), toy_dataset(name="hard", env_id=None)
    found = bc([easy, hard], grid={}, environment=Toy)
    assert list(found.runs) == ["toy", "hard"] and "all datasets" in repr(found)
    assert found.best_on("hard") is found.runs["hard"]
    with pytest.raises(InputError, match=r"several datasets \(toy, hard\); use best_on"):
        found.best  # noqa: B018
    with pytest.raises(InputError, match="no dataset 'toi'; did you mean toy"):
        found.best_on("toi")
    named = bc({"a": easy, "b": easy}, grid={}, num_evaluation_episodes=0)
    assert list(named.runs) == ["a", "b"]
    with pytest.raises(InputError, match="no run on a has a score to choose by"):
        named.best_on("a")


def test_an_algorithm_of_your_own(tmp_path):
    grid = {"gain": [1, 0.5], "batch_size": [4]}
    found = sweep(rule, toy_dataset(), grid=grid, sweep_dir=tmp_path / "rule", **SHORT)
    assert found.best.config.gain == 1.0
    assert json.loads((found.path / "sweep.json").read_text())["grid"]["gain"] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"grid": {"learning_rat": [1]}}, "no setting 'learning_rat' to sweep; did you mean lear"),
        ({"grid": {}}, r'nothing to sweep: give values for a setting, such as grid\["'),
        ({"grid": [1e-3]}, "grid is a list; give a dictionary"),
        ({"grid": {"learning_rate": []}}, r'grid\["learning_rate"\] is empty; give at least one'),
        ({"grid": {"learning_rate": 1e-3}}, r"is 0.001, a single value; give a list"),
        ({"grid": {"policy": "gaussian"}}, "is 'gaussian', a single value; give a list"),
        ({"grid": {"learning_rate": [0.1, 0.1 + 1e-12]}}, ": 0.1 is given twice"),
        ({"grid": {"network": ["8x8", (8, 8)]}}, r'grid\["network"\]: 8x8 is given twice'),
        ({"grid": {"network": [8, 16]}}, "network is a int; give a Linen module"),
        ({"grid": {"learning_rate": ["big"]}}, "learning_rate='big' is a str; give a float"),
        ({"grid": {"batch_size": [4]}}, r'both grid\["batch_size"\] and config\["batch_size"\]'),
        ({"runs_per_job": 1}, "runs_per_job=1 is less than num_seeds=2"),
        ({"num_seeds": 0, "runs_per_job": 1}, "num_seeds=0; give at least one"),
        ({"seed_batch": 3}, "seed_batch=3 does not divide 4"),
        ({"num_step": 1}, "sweep has no setting 'num_step'; did you mean num_steps"),
        ({"keep_last": 1}, "sweep has no setting 'keep_last'"),
        ({"data": []}, "data holds no dataset"),
        ({"data": [toy_dataset(), toy_dataset()]}, "two datasets are named 'toy'; give each once"),
        ({"data": toy_dataset(env_id=None)}, "names no environment to evaluate in"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_written(tmp_path, arguments, words):
    given = {"grid": RATES, "data": toy_dataset(), "sweep_dir": tmp_path / "new"} | arguments
    with pytest.raises(InputError, match=words):
        bc(given.pop("data"), **given)
    assert not os.listdir(tmp_path)
