"""Kill −9 at random moments of a real run: what it ends with is what it would have ended with."""

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
KILLS = int(os.environ.get("KILLS", 3))  # an algorithm
NUM_ROWS = 2 * KILLS + 3  # enough for all of them: each comes after a row or two
FLAGS = (
    "--dataset=pointmaze/umaze-1000",
    "--num_seeds=2",
    "--num_evaluation_episodes=1",
    "--checkpoint_seconds=0",
    f"--num_steps={20 * NUM_ROWS}",
    f"--num_evaluations={NUM_ROWS}",
)
RUNS = {  # one phase; delayed actor; relabelled data; a behaviour model first
    "bc": ("--config.network=128x128",),
    "td3_bc": (),
    "awr": ("--config.relabel_every=30",),
    "brac": ("--config.num_behavior_steps=2000",),
}
DESCRIPTION = "checkpoints/*/description/metadata"


class Run:
    """A training command that can be started again and again."""

    def __init__(self, algorithm: str, folder: Path, name: str):
        self.path = folder / name
        self._log = folder / f"{name}.log"
        self.command = [sys.executable, "-m", "offrl_jax.cli.train", f"--algorithm={algorithm}"]
        self.command += [*FLAGS, *RUNS[algorithm], f"--run_dir={self.path}"]
        self.environment = os.environ | {
            "OFFRL_JAX_CACHE": str(folder / "cache"),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
        }

    def start(self, *flags: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
        """Starts it, with more flags, or by a command that comes before."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*before, *self.command, *flags],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self.environment,
            )

    def finish(self) -> None:
        assert self.start().wait() == 0, self.log()[-2000:]

    def log(self) -> str:
        return self._log.read_text()

    def steps(self) -> int:
        """Rows so far."""
        rows = self.path / "metrics.jsonl"
        return rows.read_bytes().count(b"\n") if rows.exists() else 0


def assert_same(run: Run, reference: Run) -> None:
    """Byte for byte in final parameters and evaluation rows; metrics but for the speed."""
    for name in ("policy/weights.npz", "policy/policy.json", "evaluations.jsonl"):
        assert (run.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    metrics = [
        [json.loads(line) | {"steps_per_second": 0} for line in path.read_text().splitlines()]
        for path in (run.path / "metrics.jsonl", reference.path / "metrics.jsonl")
    ]
    assert metrics[0] == metrics[1]
    digests = [
        {p.parts[-3]: json.loads(p.read_text())["sha256_of_arrays"] for p in path.glob(DESCRIPTION)}
        for path in (run.path, reference.path)
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 2
    assert (run.path / "DONE").exists()


def killed_and_finished(run: Run, rng: random.Random) -> None:
    """Kills the run at random moments, mostly after a further row, and lets it end then."""
    for _ in range(KILLS):
        process = run.start()
        before, deadline = run.steps(), time.monotonic() + 60
        if rng.random() < 0.85:  # else also while it starts
            while run.steps() <= before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.3)
        else:
            time.sleep(rng.random() * 8)
        process.kill()
        assert process.wait() == -signal.SIGKILL, run.log()[-2000:]  # it was not done yet
    run.finish()


@pytest.mark.fault(33, "kill -9 at any moment", "resume bit-exact, nothing lost")
@pytest.mark.slow  # by default one kill, among other interruptions
@pytest.mark.parametrize("algorithm", RUNS)
def test_a_killed_run_ends_as_it_would_have(algorithm, tmp_path, seen):
    reference = Run(algorithm, tmp_path, "reference")
    reference.finish()
    run = Run(algorithm, tmp_path, "killed")
    killed_and_finished(run, random.Random(algorithm))
    assert_same(run, reference)
    seen(f"{algorithm}: {KILLS} kills, the same to the byte")


def test_comparing_runs_notices_a_difference(tmp_path):
    """Guards the comparison itself."""
    path = tmp_path / "a" / "policy"
    path.mkdir(parents=True)
    np.savez(path / "weights.npz", x=np.zeros(2))
    first = Run("bc", tmp_path, "a")
    other = Run("bc", tmp_path, "b")
    (tmp_path / "b" / "policy").mkdir(parents=True)
    np.savez(tmp_path / "b" / "policy" / "weights.npz", x=np.ones(2))
    with pytest.raises(AssertionError, match=r"weights.npz"):
        assert_same(first, other)
