"""Settings that were trained side by side, each left as a run of its own."""

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax import divergence, learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.checkpoint import Checkpoints, Damaged
from offrl_jax.data.dataset import Data
from offrl_jax.outcomes import RunFailed
from offrl_jax.policy import save_policy
from offrl_jax.run_directory import CONFIG, DONE, RunDirectory
from offrl_jax.types import Key

PART = "part"  # in its `config.json`, which of how many it is


class Part(NamedTuple):
    """Successive runs of a job, at the end of their training.

    Attributes:
      path: The directory where they were trained together.
      state: Theirs, on one axis.
      facts: Of the end: `step`, `diverged` by run, `seconds`.
    """

    path: Path
    state: Any
    facts: dict[str, Any]


def share(num_runs: int, part: tuple[int, int]) -> slice:
    """The runs that are the i-th of n nearly equal parts, counted from 0."""
    i, num_parts = part
    return slice(i * num_runs // num_parts, (i + 1) * num_runs // num_parts)


def finished_part(
    path: Path, algorithm: Algorithm, configs: Sequence[Any], dataset: Data, keys: Key
) -> Part:
    """What `runs.train` with a `part` has left, perhaps by another process.

    Args:
      path: Its directory, which has `DONE`.
      algorithm: Which was trained.
      configs: H of them.
      dataset: What it was trained on.
      keys: (S,).

    Raises:
      RunFailed: if it cannot be read.
    """
    part = tuple(json.loads((path / CONFIG).read_text())[PART])
    facts = json.loads((path / DONE).read_text())
    own = share(len(configs) * len(keys), part)
    config, keys = jax.tree.map(lambda x: x[own], learner.side_by_side(configs, keys))
    init = partial(learner.init, algorithm, config, dataset.spec, keys)
    checkpoints = Checkpoints(path / "checkpoints", read_only=True)
    try:
        state, _ = checkpoints.restore_step(facts["step"], jax.eval_shape(init))
    except (Damaged, OSError) as error:
        raise RunFailed(
            f"the last checkpoint in {path} cannot be read ({error}); mend that, or remove {path} "
            "and run the same command again to train its runs anew"
        ) from error
    finally:
        checkpoints.abandon()
    return Part(path, state, facts)


def leave(
    run_dirs: Sequence[Path],
    algorithm: Algorithm,
    configs: Sequence[Any],
    dataset: Data,
    parts: Sequence[Part],
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
      parts: At the end of training, their runs H × S one after another.
      fail_on_divergence: As for `runs.train`.
    """
    state = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(part.state for part in parts))
    diverged = list(itertools.chain.from_iterable(part.facts["diverged"] for part in parts))
    step = max(part.facts["step"] for part in parts)  # a part whose runs all diverge ends early
    seconds = {  # a setting's share of those of the part that took longest
        name: max(part.facts["seconds"][name] for part in parts) / len(configs)
        for name in parts[0].facts["seconds"]
    }
    settings = json.loads((parts[0].path / CONFIG).read_text()) | {"seed_batch": None}
    settings.pop(PART, None)
    environment = json.loads((parts[0].path / "environment.json").read_text())
    environment["trained_beside"] = len(configs) - 1  # other settings, in the same program
    num_seeds = len(diverged) // len(configs)
    for i, (path, config) in enumerate(zip(run_dirs, configs, strict=True)):
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*"):
            shutil.rmtree(leftover)
        own = slice(i * num_seeds, (i + 1) * num_seeds)
        facts = {"step": step, "diverged": diverged[own], "seconds": seconds}
        directory = RunDirectory(
            path.with_name(f".{path.name}.{os.getpid()}"),
            settings | {"config": dataclasses.asdict(config)},
            environment,
        )
        directory.adopt()
        for rows in (directory.metrics, directory.evaluations):
            for row in _rows(parts, rows.path.name, own):
                rows.append(row)
        own_state = jax.tree.map(lambda x, own=own: x[own], state)
        checkpoints = Checkpoints(directory.path / "checkpoints")
        checkpoints.save(
            step, own_state, {"rows": directory.marks(), "diverged": facts["diverged"]}
        )
        checkpoints.close()
        save_policy(
            *(directory.path / "policy", algorithm, config, own_state, dataset.spec),
            *(dataset.preprocessing, facts["diverged"]),
        )
        directory.end(divergence.failure(facts["diverged"], fail_on_divergence), facts)
        directory.close()
        directory.path.rename(path)


def _rows(parts: Sequence[Part], name: str, own: slice) -> Iterator[dict[str, Any]]:
    """What the parts' rows of that file hold of some of the job's runs: of lists their places, null
    where the part has ended before; of other things what the first says; and nothing but that it
    failed of an evaluation that did so for some of them."""
    files = [_by_step(part.path / name) for part in parts]
    places = [(k, j) for k, part in enumerate(parts) for j in range(len(part.facts["diverged"]))]
    for step in sorted(set().union(*files)):
        by_run = [(files[k].get(step), j) for k, j in places[own]]
        told = sorted(
            (row for row, _ in by_run if row is not None), key=lambda r: "failed" not in r
        )
        others = [rows[step] for rows in files if step in rows]  # these have ended
        yield {
            key: [_nulls(x[0]) if row is None else row[key][j] for row, j in by_run]
            if isinstance(x, list)
            else x
            for key, x in [*told, *others][0].items()
        }


def _by_step(path: Path) -> dict[int, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["step"]: row for row in map(json.loads, lines)}


def _nulls(value: Any) -> Any:
    """Lists of the same lengths, of null."""
    return [_nulls(x) for x in value] if isinstance(value, list) else None
