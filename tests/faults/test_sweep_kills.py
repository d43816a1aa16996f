"""A sweep that is told to stop and killed at random moments ends with the table and the runs of one
that is left alone."""

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

from offrl_jax.cli.command_line import STOPPED_CODE

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--algorithm=bc",
    "--dataset=pointmaze/umaze-1000",
    "--num_seeds=2",
    "--num_evaluation_episodes=1",
    "--checkpoint_seconds=0",
    "--num_steps=80",
    "--num_evaluations=4",
    "--config.batch_size=64",
)
SIZES = "--grid.network=64,128"
CASES = {  # a grid, and the signals that end its first processes
    "4 cells": (["--grid.learning_rate=1e-3,3e-4", SIZES], [signal.SIGKILL]),
    "12 cells": (
        ["--grid.learning_rate=1e-3,3e-4,1e-4,3e-5", f"{SIZES},64x64"],
        [signal.SIGTERM, *[signal.SIGKILL] * int(os.environ.get("KILLS", 2))],
    ),
}
CODES = {signal.SIGTERM: STOPPED_CODE, signal.SIGKILL: -signal.SIGKILL}


class Sweep:
    """A sweep's command that can be started again and again."""

    def __init__(self, grid: list[str], folder: Path, name: str):
        self.path = folder / name
        self._log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", "offrl_jax.cli.sweep", *FLAGS, *grid]
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


def interrupted_and_finished(sweep: Sweep, signals: list[int], rng: random.Random) -> None:
    """Sends each signal to a process at a random moment after it has got further than the one
    before, and lets the last one end."""
    for number in signals:
        process, before = sweep.start(), sweep.files()
        deadline = time.monotonic() + 120
        while sweep.files() <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.random() * 3)
        process.send_signal(number)
        assert process.wait() == CODES[number], sweep.log()[-2000:]  # it was not done yet
    if signal.SIGTERM in signals:
        assert f"the same command with --sweep_dir={sweep.path} resumes" in sweep.log()
    sweep.finish()


def assert_same(sweep: Sweep, reference: Sweep) -> None:
    tables = [sorted(p.name for p in s.path.glob("table.*")) for s in (sweep, reference)]
    assert tables[0] == tables[1] and {"table.txt", "table.json"} <= {*tables[0]}
    for name in tables[0]:
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
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_killed_sweep_ends_as_it_would_have(case, tmp_path, seen):
    grid, signals = CASES[case]
    reference = Sweep(grid, tmp_path, "reference")
    reference.finish()
    sweep = Sweep(grid, tmp_path, "killed")
    interrupted_and_finished(sweep, signals, random.Random(case))
    assert_same(sweep, reference)
    seen(f"{case}: {len(signals)} interruptions, the same to the byte")
