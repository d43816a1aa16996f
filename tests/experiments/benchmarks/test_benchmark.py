"""The benchmark, on tiny data in a process where only what it needs can be imported."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
DRIVER = """
import importlib.abc, json, sys
from pathlib import Path

ABSENT = {"orbax", "gymnasium", "gymnasium_robotics", "minari", "h5py", "mujoco", "tqdm"}
ABSENT |= {"platformdirs", "jaxtyping", "beartype"}


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"{name} is not installed here")


sys.meta_path.insert(0, Absent())

import jax

from experiments.benchmarks import speed as command
from experiments.benchmarks import matrix_products
from experiments.benchmarks import measurements
from tests import commands

folder = Path(sys.argv[1])
measurements.SECONDS, matrix_products.SECONDS = 0.02, 0.01
measure = measurements.measure
results = {}


def run(name, *flags):
    results[name] = commands.run(command, "--quick", "--num_transitions=1500", *flags)


run("unknown algorithm", "--algorithms=bcc")
run("unknown shape", "--shapes=hoper")
run("no number", "--num_seeds=1,many")
run("output is a file", f"--out={sys.executable}")


def too_large(*args, **options):
    if args[3].size == 2:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
    return measure(*args, **options)


whole = f"--out={folder / 'whole'}"
measurements.measure = too_large
run("whole", "--algorithms=bc,brac", "--num_seeds=2,1", whole)
measurements.measure = measure
run("again", "--algorithms=bc", whole)
ABSENT |= {"matplotlib", "PIL"}
for name in [name for name in sys.modules if name.startswith("matplotlib")]:
    del sys.modules[name]
bare = f"--out={folder / 'bare'}"
run("bare", "--algorithms=bc", "--compared", "--num_settings=2", "--shapes=adroit", bare)
run("json", "--algorithms=bc", "--json")
results["json"]["folders"] = sorted(path.name for path in folder.iterdir())
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def results(folder):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


REFUSED = {
    "unknown algorithm": "did you mean bc?",
    "unknown shape": "did you mean hopper?",
    "no number": "num_seeds=1,many are not all positive",
    "output is a file": "cannot be made",
    "again": "holds a benchmark already",
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_sentence(results, name):
    assert results[name]["code"] == 2
    assert REFUSED[name] in results[name]["err"] and results[name]["err"].count("\n") == 1
    assert not results[name]["out"]


def test_every_case_is_measured_and_one_too_large_is_reported(results, folder):
    assert results["whole"]["code"] == 0, results["whole"]["err"]
    record = json.loads((folder / "whole/benchmark.json").read_text())
    about = [(c["algorithm"], c["num_seeds"], c["num_settings"]) for c in record["cases"]]
    assert about == [("bc", 2, 1), ("bc", 1, 1), ("brac", 2, 1), ("brac", 1, 1)]
    failed, measured = record["cases"][::2], record["cases"][1::2]
    assert all(case["failed"] == "out of memory" for case in failed)
    for case in measured:
        assert len(case["repeats"]) == 3 and min(case["repeats"]) > 0
        assert case["updates_per_second"] == statistics.median(case["repeats"])
        assert case["compile_seconds"] > 0 and case["lower_seconds"] > 0
        assert case["program_bytes"] > 1500 * (2 * 11 + 2 * 3) * 4  # the data are among it
        assert 0.98 <= case["operations_over_minimum"] <= 1.2
        achieved = case["operations"] * case["updates_per_second"] / 1e9
        assert case["gflops"] == pytest.approx(achieved)
        pairs = zip(case["repeats"], case["product_gflops"], strict=True)
        fractions = [case["operations"] * rate / 1e9 / product for rate, product in pairs]
        assert case["fraction_of_product_rate"] == pytest.approx(statistics.median(fractions))
        assert "256×" in case["product"]
        assert case["config"]["batch_size"] == 256
    environment = record["environment"]
    assert environment["versions"]["jax"] and environment["cpu"] and environment["device_kind"]


def test_the_table_shows_what_the_json_holds(results, folder):
    text = results["whole"]["out"]
    cases = json.loads((folder / "whole/benchmark.json").read_text())["cases"]
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "device peak" not in header  # a CPU has none
    assert len(rows) == len(cases)
    for row, case in zip(rows, cases, strict=True):
        rate = "out of memory"
        if "failed" not in case:
            rate = case["updates_per_second"]
            rate = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        assert f"| {case['algorithm']} |" in row and f"| {rate} |" in row
    assert image.imread(folder / "whole/benchmark.png").shape[0] > 100


def test_settings_are_an_axis_and_the_figure_is_not_needed(results, folder):
    assert results["bare"]["code"] == 0, results["bare"]["err"]
    assert "figure is left out" in results["bare"]["err"]
    assert not (folder / "bare/benchmark.png").exists()
    (case,) = json.loads((folder / "bare/benchmark.json").read_text())["cases"]
    assert case["num_settings"] == 2 and case["observation_size"] == 46
    assert case["config"]["policy"] == "deterministic"


def test_json_lines_are_what_the_comparison_reads(results):
    assert results["json"]["code"] == 0, results["json"]["err"]
    assert results["json"]["folders"] == ["bare", "whole"]
    (line,) = results["json"]["out"].splitlines()
    assert json.loads(line)["algorithm"] == "bc" and json.loads(line)["updates_per_second"] > 0
