"""Splits settings that were trained together into a run of its own for each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Data
from offrl_jax.networks.serialization import settings_to_json
from offrl_jax.runs import lost_seeds
from offrl_jax.runs.directory import CONFIG
from offrl_jax.runs.in_memory import InMemory
from offrl_jax.runs.save import save_run


def leave(
    run_dirs: Sequence[Path],
    algorithm: Algorithm,
    configs: Sequence[Any],
    *,
    dataset: Data,
    together: Path,
    state: Any,
    facts: dict[str, Any],
    fail_on_divergence: bool,
) -> None:
    """Writes a run directory for each of H settings, as if its S seeds had trained alone.

    Two things differ: the directory has only the last checkpoint, and if all seeds diverge, rows
    are `null` to the end. Each directory appears whole or not at all; existing ones do not change.

    Args:
      run_dirs: H paths.
      algorithm: The trained algorithm.
      configs: H configs.
      dataset: The data that it was trained on.
      together: The directory where the settings were trained.
      state: States at the end of training, the H × S runs on one axis.
      facts: Facts about the end: `step`, `diverged` by run, `seconds`.
      fail_on_divergence: As for `runs.train`.
    """
    runs = apart(
        configs,
        settings=json.loads((together / CONFIG).read_text()),
        environment=json.loads((together / "environment.json").read_text()),
        metrics=_rows(together / "metrics.jsonl"),
        evaluations=_rows(together / "evaluations.jsonl"),
        facts=facts,
        fail_on_divergence=fail_on_divergence,
    )
    for i, (path, config, run) in enumerate(zip(run_dirs, configs, runs, strict=True)):
        if path.exists():
            continue
        save_run(
            path,
            settings=run.settings,
            environment=run.environment,
            metrics=run.metrics.rows,
            evaluations=run.evaluations.rows,
            algorithm=algorithm,
            config=config,
            state=state_of(state, i, len(configs)),
            spec=dataset.spec,
            preprocessing=dataset.preprocessing,
            facts=run.facts,
            failed=run.failed,
        )


def apart(
    configs: Sequence[Any],
    *,
    settings: dict[str, Any],
    environment: dict[str, Any],
    metrics: Sequence[dict[str, Any]],
    evaluations: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    fail_on_divergence: bool,
) -> Iterator[InMemory]:
    """The records of each of H settings, from those of the H × S runs that were trained together.

    Args:
      configs: H configs.
      settings: Settings of the joint training: `config.json`.
      environment: Its environment: `environment.json`.
      metrics: One row per chunk, with lists of H × S numbers.
      evaluations: One row per evaluation, likewise.
      facts: As for `leave`.
      fail_on_divergence: As for `runs.train`.
    """
    num_seeds = len(facts["diverged"]) // len(configs)
    seconds = {name: s / len(configs) for name, s in facts["seconds"].items()}
    beside = {"trained_beside": len(configs) - 1}  # other settings, in the same program
    for i, config in enumerate(configs):
        own = slice(i * num_seeds, (i + 1) * num_seeds)
        run = InMemory(
            settings | {"seed_batch": None, "config": settings_to_json(config)},
            environment | beside,
        )
        for rows, kept in ((metrics, run.metrics), (evaluations, run.evaluations)):
            for row in rows:
                kept.append({k: x[own] if isinstance(x, list) else x for k, x in row.items()})
        diverged = facts["diverged"][own]
        run.end(
            lost_seeds.failure(diverged, fail_on_divergence),
            facts | {"diverged": diverged, "seconds": seconds},
        )
        yield run


def state_of(state: Any, index: int, num_settings: int) -> Any:
    """The S states of one setting, from H × S states on one axis."""

    def own(x: jax.Array) -> jax.Array:
        num_seeds = len(x) // num_settings
        return x[index * num_seeds : (index + 1) * num_seeds]

    return jax.tree.map(own, state)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
