"""Settings that were trained side by side, each left as a run of its own."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Data
from offrl_jax.runs import lost_seeds
from offrl_jax.runs.directory import CONFIG
from offrl_jax.runs.save import save_run


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
        own = slice(i * num_seeds, (i + 1) * num_seeds)
        diverged = facts["diverged"][own]
        save_run(
            path,
            settings=settings | {"config": dataclasses.asdict(config)},
            environment=environment,
            metrics=_rows(together / "metrics.jsonl", own),
            evaluations=_rows(together / "evaluations.jsonl", own),
            algorithm=algorithm,
            config=config,
            state=jax.tree.map(lambda x, own=own: x[own], state),
            spec=dataset.spec,
            preprocessing=dataset.preprocessing,
            facts=facts | {"diverged": diverged, "seconds": seconds},
            failed=lost_seeds.failure(diverged, fail_on_divergence),
        )


def _rows(path: Path, own: slice) -> Iterator[dict[str, Any]]:
    """What a file of rows holds of some of the runs: the runs' part of each list."""
    if path.exists():
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield {k: x[own] if isinstance(x, list) else x for k, x in row.items()}
