"""Kill −9 at random moments of a sweep: its table and its runs are those of one left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", 2))
FLAGS = (
    "--algorithm=bc",
    "--datasets=pointmaze/umaze-1000",
    "--num_seeds=2",
    "--num_evaluation_episodes=1",
    "--checkpoint_seconds=0",
    "--num_steps=80",
    "--num_evaluations=4",
    "--config.batch_size=64",
)
GRIDS = {
    "4 cells": ("--grid.learning_rate=1e-3,3e-4", "--grid.hidden_sizes=64,128"),
    "12 cells": (
        *("--grid.learning_rate=1e-3,3e-4,1e-4,3e-5", "--grid.hidden_sizes=64,128,64x64"),
    ),
}


class Sweep:
    """A sweep's command that can be started again and again."""

    def __init__(self, grid: str, folder: Path, name: str):
        self.path = folder / name
        self._log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", "experiments.sweep", *FLAGS, *GRIDS[grid]]
        self._command += [f"--sweep_dir={self.path}"]
        self._environment = os.environ | {
            "OFFRL_JAX_CACHE": str(folder / "cache"),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
        }

    def start(self) -> subprocess.Popen:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=ROOT, env=self._environment
            )

    def finish(self) -> None:
        assert self.start().wait() == 0, self.log()[-2000:]

    def log(self) -> str:
        return self._log.read_text()

    def files(self) -> set[Path]:
        """What there is of jobs and runs, which grows and shrinks as the sweep goes on."""
        return {p for p in self.path.glob("*/*/*") if p.parent.parent.name in ("jobs", "runs")}


def killed_and_finished(sweep: Sweep, rng: random.Random) -> None:
    """Kills it at random moments after it has got further than before, and lets it end then."""
    for _ in range(KILLS):
        process, before = sweep.start(), sweep.files()
        deadline = time.monotonic() + 120
        while sweep.files() <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.random() * 3)
        process.kill()
        assert process.wait() == -signal.SIGKILL, sweep.log()[-2000:]  # it was not done yet
    sweep.finish()


def assert_same(sweep: Sweep, reference: Sweep) -> None:
    for name in ("table.txt", "table.csv", "table.json", "table.png"):
        assert (sweep.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    names = [sorted(p.name for p in (s.path / "runs").iterdir()) for s in (sweep, reference)]
    assert names[0] == names[1] and not (sweep.path / "jobs").exists()
    for name in names[0]:
        found, expected = (s.path / "runs" / name for s in (sweep, reference))
        for file in ("config.json", "evaluations.jsonl", "policy/policy.json"):
            assert (found / file).read_bytes() == (expected / file).read_bytes(), (name, file)
        weights, others = (np.load(path / "policy/weights.npz") for path in (found, expected))
        assert all(np.array_equal(weights[key], others[key]) for key in others), name
        rows = [
            [json.loads(line) | {"steps_per_second": 0} for line in path.read_text().splitlines()]
            for path in (found / "metrics.jsonl", expected / "metrics.jsonl")
        ]
        assert rows[0] == rows[1] and len(rows[0]) == 4
        assert (found / "DONE").exists()


@pytest.mark.fault(33, "kill -9 at any moment of a sweep", "the same table, nothing run twice")
@pytest.mark.parametrize("grid", ["4 cells", pytest.param("12 cells", marks=pytest.mark.slow)])
def test_a_killed_sweep_ends_as_it_would_have(grid, tmp_path, seen):
    reference = Sweep(grid, tmp_path, "reference")
    reference.finish()
    sweep = Sweep(grid, tmp_path, "killed")
    killed_and_finished(sweep, random.Random(grid))
    assert_same(sweep, reference)
    seen(f"{grid}: {KILLS} kills, the same to the byte")
