"""Settings that were trained side by side, each left as a run of its own."""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from offrl_jax import divergence
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.checkpoint import Checkpoints
from offrl_jax.data.dataset import Dataset
from offrl_jax.policy import save_policy
from offrl_jax.run_directory import RowFile, RunDirectory
from offrl_jax.session import Session


def leave(
    run_dirs: Sequence[Path],
    algorithm: Algorithm,
    configs: Sequence[Any],
    dataset: Dataset,
    session: Session,
    together: RunDirectory,
    settings: dict[str, Any],
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
      session: At the end of training, its runs H × S on one axis.
      together: Where they were trained.
      settings: For `config.json`, but for the config.
      facts: Of the end, for `DONE`.
      fail_on_divergence: As for `runs.train`.
    """
    num_seeds = len(session.diverged) // len(configs)
    environment = json.loads((together.path / "environment.json").read_text())
    environment["trained_beside"] = len(configs) - 1  # other settings, in the same program
    for i, (path, config) in enumerate(zip(run_dirs, configs, strict=True)):
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*"):
            shutil.rmtree(leftover)
        own = slice(i * num_seeds, (i + 1) * num_seeds)
        state = jax.tree.map(lambda x, own=own: x[own], session.state)
        diverged = session.diverged[own]
        directory = RunDirectory(
            path.with_name(f".{path.name}.{os.getpid()}"),
            settings | {"config": dataclasses.asdict(config)},
            environment,
        )
        directory.adopt()
        for rows, all_rows in (
            (directory.metrics, together.metrics),
            (directory.evaluations, together.evaluations),
        ):
            _copy(all_rows, rows, own)
        checkpoints = Checkpoints(directory.path / "checkpoints")
        checkpoints.save(session.step, state, {"rows": directory.marks(), "diverged": diverged})
        checkpoints.close()
        save_policy(
            *(directory.path / "policy", algorithm, config, state, dataset.spec),
            *(dataset.preprocessing, diverged),
        )
        failed = divergence.failure(diverged, fail_on_divergence)
        directory.end(failed, facts | {"diverged": diverged})
        directory.close()
        directory.path.rename(path)


def _copy(rows: RowFile, to: RowFile, own: slice) -> None:
    """What rows hold of some of the runs: of lists their part, of other things all."""
    if rows.path.exists():
        for line in rows.path.read_text().splitlines():
            row = json.loads(line)
            to.append({k: v[own] if isinstance(v, list) else v for k, v in row.items()})
