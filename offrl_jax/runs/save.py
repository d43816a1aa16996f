"""Writes the directory of a run that was trained without one of its own."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offrl_jax.algorithms import check_own_name
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Preprocessing
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.directory import RunDirectory
from offrl_jax.runs.policy import save_policy
from offrl_jax.types import Spec


def save_run(
    path: Path,
    *,
    settings: dict[str, Any],
    environment: dict[str, Any],
    metrics: Iterable[dict[str, Any]],
    evaluations: Iterable[dict[str, Any]],
    algorithm: Algorithm,
    config: Any,
    state: Any,
    spec: Spec,
    preprocessing: Preprocessing,
    facts: dict[str, Any],
    failed: str | None,
    ended: bool = True,
) -> None:
    """Writes a run directory with one checkpoint, the last. It appears whole or not at all.

    Args:
      path: A new directory.
      settings: For `config.json`.
      environment: For `environment.json`.
      metrics: The rows of `metrics.jsonl`.
      evaluations: The rows of `evaluations.jsonl`.
      algorithm: The trained algorithm.
      config: Its config.
      state: States with leading axis S.
      spec: The dataset's spec.
      preprocessing: The dataset's preprocessing.
      facts: Facts about the end: `step`, `diverged` by seed, `seconds`.
      failed: Why the run counts as failed, or None.
      ended: Whether the run has ended, done or failed.

    Raises:
      InputError: if the algorithm has a library algorithm's name but differs from it.
    """
    check_own_name(algorithm)
    path.parent.mkdir(parents=True, exist_ok=True)
    leftovers = re.compile(rf"\.{re.escape(path.name)}\.\d+")  # of processes that were killed
    for entry in path.parent.iterdir():
        if leftovers.fullmatch(entry.name):
            shutil.rmtree(entry)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    directory = RunDirectory(unfinished, settings, environment)
    directory.adopt()
    for row in metrics:
        directory.metrics.append(row)
    evaluations = list(evaluations)
    before = [row for row in evaluations if row["step"] < facts["step"]]
    for row in before:  # a checkpoint comes before the evaluation of its step
        directory.evaluations.append(row)
    checkpoints = Checkpoints(directory.path / "checkpoints")
    kept = {"rows": directory.marks(), "diverged": facts["diverged"]}
    checkpoints.save(facts["step"], state, kept)
    checkpoints.close()
    for row in evaluations[len(before) :]:
        directory.evaluations.append(row)
    save_policy(
        directory.path / "policy",
        algorithm,
        config,
        state=state,
        spec=spec,
        preprocessing=preprocessing,
        diverged=facts["diverged"],
    )
    if ended:
        directory.end(failed, facts)
    directory.close()
    directory.path.rename(path)
