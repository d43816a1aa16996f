"""The sweep command: one process runs it in many ways, and the tests read what it did."""

import json

import numpy as np
import pytest

from tests.commands import run_apart

SMALL = [
    "--algorithm=bc",
    "--dataset=pointmaze/umaze-600",
    "--num_steps=20",
    "--num_seeds=2",
    "--num_evaluations=2",
    "--num_evaluation_episodes=1",
    "--config.batch_size=8",
]
GRID = ["--grid.learning_rate=1e-3,3e-4", "--grid.network=8,8x8"]
NOT_GIVEN = "--config.batch_size="
REFUSED = {  # case: flags beside SMALL, and words of the sentence
    "unknown field": (["--grid.learning_rat=1"], "did you mean --grid.learning_rate?"),
    "no number": (
        ["--grid.learning_rate=1e-3,big"],
        "'big' is not one; give values such as 0.1,0.5",
    ),
    "no network": (["--grid.network=8,8y8"], "'8y8' is not a network; give hidden sizes such as"),
    "no name": (["--grid.policy=l7"], "policy='l7' is not one of"),
    "empty axis": (["--grid.learning_rate="], "'' is not one"),
    "twice": (["--grid.learning_rate=1e-3,0.001"], "0.001 is given twice; give each value once"),
    "empty grid": ([], "there is nothing to sweep"),
    "fixed and swept": (
        ["--grid.learning_rate=1e-3", "--config.learning_rate=1e-3"],
        "both --grid.learning_rate and --config.learning_rate are given; leave one out",
    ),
    "out of range": (["--grid.learning_rate=1e-3,-1"], "learning_rate=-1.0 is outside"),
    "in a later job": (
        ["--grid.batch_size=8,601", NOT_GIVEN],
        "batch_size=601 is more than the 600",
    ),
    "later dataset": ([*GRID, "--dataset=pointmaze/umaze-600,absent.npz"], "absent.npz"),
    "dataset twice": ([*GRID, "--dataset=a,a"], "name each once"),
    "batch": ([*GRID, "--seed_batch=3"], "seed_batch=3 does not divide 4"),
    "runs a job": ([*GRID, "--runs_per_job=1"], "--runs_per_job=1 is less than --num_seeds=2"),
    "job and launcher": (
        [*GRID, "--job=1", "--launcher=local"],
        "both --job=1 and --launcher=local are given; a launcher runs all jobs",
    ),
    "no such job": ([*GRID, "--job=3"], "job=3 but the sweep has 2 jobs"),
    "uneven jobs": (
        ["--grid.learning_rate=1e-2,1e-3,1e-4", "--runs_per_job=5", "--job=3"],
        "job=3 but the sweep has 2 jobs",
    ),
    "evaluations": ([*GRID, "--num_evaluations=3"], "num_steps=21 can"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def results(folder):
    cases = {
        "whole": [*SMALL, *GRID, f"--sweep_dir={folder / 'whole'}"],
        "again": [*SMALL, *GRID, f"--sweep_dir={folder / 'whole'}", "--seed_batch=2"],
        "another": [*SMALL, "--grid.learning_rate=1", f"--sweep_dir={folder / 'whole'}"],
        "split": [*SMALL, *GRID, "--runs_per_job=3", f"--sweep_dir={folder / 'split'}"],
        "split otherwise": [*SMALL, *GRID, f"--sweep_dir={folder / 'split'}"],
        **{
            name: [*SMALL, *GRID, f"--sweep_dir={folder / 'parts'}", *flags]
            for name, flags in (("second", ["--job=2"]), ("first", ["--job=1"]), ("table", []))
        },
    }
    for name, (flags, _) in REFUSED.items():
        given = {flag.partition("=")[0]: flag for flag in [*SMALL, *flags]}
        flags = [flag for flag in given.values() if flag != NOT_GIVEN]
        cases[name] = [*flags, f"--sweep_dir={folder / 'refused'}"]
    return run_apart("sweep", cases, OFFRL_JAX_CACHE=str(folder / "cache"))


def rows(path):
    lines = path.read_text().splitlines()
    return [json.loads(line) | {"steps_per_second": 0} for line in lines]


def test_a_sweep_leaves_a_run_of_each_setting_and_a_table(folder, results):
    found = results["whole"]
    assert found["code"] == 0, found
    sizes = ("8", "8x8")
    names = [
        f"pointmaze-umaze-600,learning_rate={rate},network={size}"
        for rate in ("0.0003", "0.001")
        for size in sizes
    ]
    sweep = folder / "whole"
    assert sorted(p.name for p in (sweep / "runs").iterdir()) == names
    assert {p.name for p in sweep.iterdir()} == {
        *("runs", "run.lock", "sweep.json"),
        *("table.txt", "table.json", "table.png"),
    }
    text = (sweep / "table.txt").read_text()
    assert text in found["out"] and "chosen from 4 settings" in text and "(seed=2)" in text
    assert "2 jobs of 2 settings × 2 seeds" in found["out"]
    means = [row["mean"] for row in json.loads((sweep / "table.json").read_text())]
    assert means == sorted(means, reverse=True) and len(means) == 4


def test_a_cell_has_the_numbers_of_the_training_command(folder, results):
    run_dir = folder / "alone"
    flags = [
        *SMALL,
        "--config.learning_rate=3e-4",
        "--config.network=8x8",
        f"--run_dir={run_dir}",
    ]
    done = run_apart("train", {"alone": flags}, OFFRL_JAX_CACHE=str(folder / "cache"))
    assert done["alone"]["code"] == 0, done
    name = "pointmaze-umaze-600,learning_rate=0.0003,network=8x8"
    cell = folder / "whole" / "runs" / name
    assert (cell / "config.json").read_bytes() == (run_dir / "config.json").read_bytes()
    for file in ("metrics.jsonl", "evaluations.jsonl"):
        for found, expected in zip(rows(cell / file), rows(run_dir / file), strict=True):
            assert found.keys() == expected.keys()
            for key in found:
                np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-5)
    weights, expected = (np.load(path / "policy/weights.npz") for path in (cell, run_dir))
    for key in expected:
        np.testing.assert_allclose(weights[key], expected[key], rtol=1e-4, atol=1e-6)


def test_a_finished_sweep_trains_nothing_again(folder, results):
    first, again = results["whole"], results["again"]
    assert again["code"] == 0 and "job 1" in first["out"] and "job 1" not in again["out"]
    assert (folder / "whole" / "table.txt").read_text() in again["out"]


def test_jobs_can_be_trained_by_themselves(folder, results):
    for name, other in (("second", 1), ("first", 2)):
        assert results[name]["code"] == 0 and f"job {other} " not in results[name]["out"]
        assert "best:" not in results[name]["out"]
    assert results["table"]["code"] == 0 and "job 1" not in results["table"]["out"]
    for name in ("table.txt", "table.png"):
        files = [(folder / sweep / name).read_bytes() for sweep in ("whole", "parts")]
        assert files[0] == files[1]


def test_jobs_can_be_split_into_smaller_ones_with_the_same_runs(folder, results):
    found = results["split"]
    assert found["code"] == 0 and "4 jobs of 1 setting × 2 seeds" in found["out"]
    line = "job 2 of 4: pointmaze/umaze-600, learning_rate=0.0003, network=8\n"
    assert line in found["out"]
    whole = sorted((folder / "whole" / "runs").iterdir())
    split = sorted((folder / "split" / "runs").iterdir())
    assert [path.name for path in split] == [path.name for path in whole]
    for path, other in zip(split, whole, strict=True):
        assert (path / "config.json").read_bytes() == (other / "config.json").read_bytes()
        weights, expected = (np.load(p / "policy/weights.npz") for p in (path, other))
        for key in expected:
            np.testing.assert_allclose(weights[key], expected[key], rtol=1e-4, atol=1e-6)
    found = results["split otherwise"]
    assert found["code"] == 2 and "runs_per_job was 3, now null)" in found["err"]


def test_another_sweep_in_the_directory_is_refused(results):
    found = results["another"]
    assert found["code"] == 2 and "holds another sweep (grid.learning_rate was" in found["err"]


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_before_anything_is_written(folder, results, case):
    found, words = results[case], REFUSED[case][1]
    last = found["err"].splitlines()[-1]
    assert found["code"] == 2 and last.startswith("error: ") and words in last, found
    assert not (folder / "refused").exists()
