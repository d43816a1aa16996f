"""Settings that were trained side by side, each left as a run of its own."""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from offrl_jax.runs import lost_seeds
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.data.dataset import Data
from offrl_jax.runs.policy import save_policy
from offrl_jax.runs.directory import CONFIG, RowFile, RunDirectory


def leave(
    run_dirs: Sequence[Path],
    algorithm: Algorithm,
    configs: Sequence[Any],
    dataset: Data,
    together: Path,
    state: Any,
    facts: dict[str, Any],
    fail_on_divergence: bool,
) -> None:
    """Makes a directory for each of H settings, as its S seeds trained alone leave it, but for the
    checkpoints, of which it has the last, and rows of `null` to the end where all seeds diverge.

    Each one is there whole or not at all; those that are there already are left as they are.

    Args:
      run_dirs: H paths.
      algorithm: Which was trained.
      configs: H of them.
      dataset: What it was trained on.
      together: The directory where they were trained.
      state: At the end of training, the H × S runs on one axis.
      facts: Of the end: `step`, `diverged` by run, `seconds`.
      fail_on_divergence: As for `runs.train`.
    """
    settings = json.loads((together / CONFIG).read_text()) | {"seed_batch": None}
    environment = json.loads((together / "environment.json").read_text())
    environment["trained_beside"] = len(configs) - 1  # other settings, in the same program
    seconds = {name: s / len(configs) for name, s in facts["seconds"].items()}
    num_seeds = len(facts["diverged"]) // len(configs)
    for i, (path, config) in enumerate(zip(run_dirs, configs, strict=True)):
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*"):
            shutil.rmtree(leftover)
        own = slice(i * num_seeds, (i + 1) * num_seeds)
        diverged = facts["diverged"][own]
        directory = RunDirectory(
            path.with_name(f".{path.name}.{os.getpid()}"),
            settings | {"config": dataclasses.asdict(config)},
            environment,
        )
        directory.adopt()
        for rows in (directory.metrics, directory.evaluations):
            _copy(together / rows.path.name, rows, own)
        own_state = jax.tree.map(lambda x, own=own: x[own], state)
        checkpoints = Checkpoints(directory.path / "checkpoints")
        checkpoints.save(
            facts["step"], own_state, {"rows": directory.marks(), "diverged": diverged}
        )
        checkpoints.close()
        save_policy(
            *(directory.path / "policy", algorithm, config, own_state, dataset.spec),
            *(dataset.preprocessing, diverged),
        )
        directory.end(
            lost_seeds.failure(diverged, fail_on_divergence),
            facts | {"diverged": diverged, "seconds": seconds},
        )
        directory.close()
        directory.path.rename(path)


def _copy(path: Path, rows: RowFile, own: slice) -> None:
    """Appends what a file of rows holds of some of the runs: the runs' part of each list."""
    if path.exists():
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows.append({k: x[own] if isinstance(x, list) else x for k, x in row.items()})
