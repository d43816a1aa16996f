"""Runs: learn, evaluate, log and save, chunk by chunk, into a run directory."""

import dataclasses
import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offrl_jax import diagnostics, environments, learner
from offrl_jax.algorithms.base import Algorithm, Phase, phases_of
from offrl_jax.checkpoint import Checkpoints
from offrl_jax.config import validate
from offrl_jax.data import scores
from offrl_jax.data.dataset import Dataset, with_discount
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts
from offrl_jax.policy import save_policy
from offrl_jax.types import InputError, Key, Spec

PACKAGES = (
    *("offrl-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "orbax-checkpoint"),
    *("gymnasium", "gymnasium-robotics", "mujoco", "minari", "h5py"),
)
MAX_CHUNK = 1000  # updates between two signs of life


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves in memory.

    Attributes:
      state: The last states, S in front.
      diverged: By seed, the first metric that was no longer finite, or None.
      metrics: Of the last chunk, (S,) each, the diagnostics among them.
      rollouts: The last evaluation, or None without one.
      seconds: Wall time by part, compiling included: `training`, `diagnostics`, `evaluation`.
      run_dir: Where the rest is.
    """

    state: Any
    diverged: list[str | None]
    metrics: dict[str, np.ndarray]
    rollouts: Rollouts | None
    seconds: dict[str, float]
    run_dir: Path


def train(
    algorithm: Algorithm,
    config: Any,
    dataset: Dataset,
    *,
    run_dir: str | Path,
    num_steps: int,
    num_seeds: int = 1,
    seed: int = 0,
    num_evaluations: int = 5,
    num_evaluation_episodes: int = 10,
    record: dict[str, Any] | None = None,
    command: Sequence[str] = (),
    report: Callable[[int, dict[str, float]], None] = lambda step, numbers: None,
) -> Result:
    """Trains S seeds in one program and leaves a complete run directory.

    The directory holds `config.json`, `environment.json`, `metrics.jsonl` (a row a chunk),
    `evaluations.jsonl` (a row an evaluation), `checkpoints/` and `policy/`.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config.
      dataset: Already transformed as wanted.
      run_dir: A new or empty directory.
      num_steps: Updates a seed, a multiple of `num_evaluations`; where training has phases, of the
        last one, and those of the others come on top.
      num_seeds: S.
      seed: Seed i of the run is `seed + i`, so three seeds equal three runs of one.
      num_evaluations: Evaluations, equally spaced over `num_steps`, the last at the end.
      num_evaluation_episodes: Episodes a seed and evaluation; 0 never makes an environment.
      record: Further settings to keep in `config.json`.
      command: What was typed, to keep in `environment.json`.
      report: Called with the step and numbers to show after every chunk and evaluation.

    Raises:
      InputError: if the directory is in use or the settings cannot work; nothing is written then.
    """
    validate(config)
    dispatches = schedule(phases_of(algorithm, config), num_steps, num_evaluations)
    if config.batch_size > len(dataset):
        raise InputError(
            f"batch_size={config.batch_size} is more than the {len(dataset)} transitions of "
            f"{dataset.spec.name}; give a smaller one"
        )
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(config)):
        raise InputError("a run takes one setting, not a stack of them; use `learn` for several")
    keys = seed_keys(seed, num_seeds)
    run_dir = check_run_dir(run_dir)
    dataset = with_discount(dataset, getattr(config, "discount", dataset.discount))
    seconds = {"training": 0.0, "evaluation": 0.0}

    evaluator = None
    if num_evaluation_episodes > 0:
        evaluator = Evaluator(algorithm, dataset, (num_seeds,), num_evaluation_episodes)
    settings = {
        "algorithm": algorithm.name,
        "config": dataclasses.asdict(config),
        "num_steps": num_steps,
        "num_seeds": num_seeds,
        "seed": seed,
        "num_evaluations": num_evaluations,
        "num_evaluation_episodes": num_evaluation_episodes,
        "dataset": dataset.spec.to_json(),
        "discount": dataset.discount,
        "preprocessing": {k: v.tolist() for k, v in dataset.preprocessing._asdict().items()},
    } | (record or {})
    run_dir.mkdir(parents=True, exist_ok=True)
    _write_json(run_dir / "config.json", settings)
    _write_json(run_dir / "environment.json", describe_environment(dataset.spec, command))
    checkpoints = Checkpoints(run_dir / "checkpoints")

    state = learner.init(algorithm, config, dataset.spec, keys)
    rollouts, diverged = None, [None] * num_seeds
    clock = time.perf_counter()
    behavior = diagnostics.clone_behavior(dataset)
    seconds["diagnostics"] = time.perf_counter() - clock
    step = 0
    for chunk, evaluates in dispatches:
        step += chunk
        clock = time.perf_counter()
        state, metrics = learner.learn(algorithm, config, dataset, state, keys, num_steps=chunk)
        metrics = jax.tree.map(lambda x: np.asarray(x, np.float64), metrics)
        elapsed = time.perf_counter() - clock
        seconds["training"] += elapsed
        clock = time.perf_counter()
        found = diagnostics.diagnose(algorithm, config, dataset, state, behavior)
        metrics |= jax.tree.map(lambda x: np.asarray(x, np.float64), found)
        seconds["diagnostics"] += time.perf_counter() - clock
        for name, values in metrics.items():
            for i in np.flatnonzero(~np.isfinite(values)):
                diverged[i] = diverged[i] or f"{name} at step {step}"
        row = {"step": step, "steps_per_second": chunk / elapsed}
        append_json(run_dir / "metrics.jsonl", row | {k: v.tolist() for k, v in metrics.items()})
        report(step, {k: float(v.mean()) for k, v in metrics.items() if k.endswith("/loss")})
        if not evaluates:
            continue
        checkpoints.save(step, state)
        if evaluator is not None:
            clock = time.perf_counter()
            rollouts = evaluator(config, state)
            seconds["evaluation"] += time.perf_counter() - clock
            row = summarize(rollouts, dataset.spec)
            append_json(run_dir / "evaluations.jsonl", {"step": step} | row)
            report(step, {k: float(np.mean(v)) for k, v in row.items() if k in ("score", "return")})
    save_policy(run_dir / "policy", algorithm, config, state, dataset.spec, dataset.preprocessing)
    checkpoints.close()
    if evaluator is not None:
        evaluator.close()
    return Result(state, diverged, metrics, rollouts, seconds, run_dir)


def schedule(
    phases: Sequence[Phase], num_steps: int, num_evaluations: int
) -> list[tuple[int, bool]]:
    """The lengths of a run's dispatches, and whether an evaluation follows.

    Args:
      phases: All but the last have their own lengths and are not evaluated.
      num_steps: Of the last phase.
      num_evaluations: Equally spaced over the last phase.

    Raises:
      InputError: if the evaluations cannot be equally spaced.
    """
    *earlier, last = phases
    dispatches = []
    for phase in earlier:
        chunk = chunk_size(phase.num_steps, 1, len(phase.updates))
        dispatches += [(chunk, False)] * (phase.num_steps // chunk)
    chunk = chunk_size(num_steps, num_evaluations, len(last.updates))
    each = num_steps // num_evaluations // chunk
    return dispatches + [(chunk, i % each == 0) for i in range(1, num_steps // chunk + 1)]


def chunk_size(num_steps: int, num_evaluations: int, cycle: int = 1) -> int:
    """Updates a dispatch: the largest divisor of an evaluation's share that is at most 1000, so
    that one compiled program serves the whole run; the whole share if its divisors are tiny.

    Divisors that hold whole cycles of alternating updates come first, since another program is
    compiled for each place in the cycle that a dispatch starts at.

    Raises:
      InputError: if the evaluations cannot be equally spaced.
    """
    if num_steps < 1 or num_evaluations < 1 or num_steps % num_evaluations:
        good = max(1, round(num_steps / max(1, num_evaluations))) * max(1, num_evaluations)
        raise InputError(
            f"num_steps={num_steps} cannot be split into num_evaluations={num_evaluations} equal "
            f"parts; num_steps={good} can"
        )
    share = num_steps // num_evaluations
    divisors = [d for d in range(min(share, MAX_CHUNK), 0, -1) if share % d == 0]
    divisor = next((d for d in divisors if d % cycle == 0), divisors[0])
    return divisor if divisor >= min(share, MAX_CHUNK // 10) else share


def seed_keys(seed: int, num_seeds: int) -> Key:
    """A key (S,) for each of the seeds from `seed` on.

    Raises:
      InputError: if some of them would repeat.
    """
    if not 0 <= seed <= 2**32 - num_seeds:
        raise InputError(
            f"seed={seed} with {num_seeds} seeds leaves the range of 0 to 2**32 - 1, beyond which "
            "seeds repeat; give a smaller one"
        )
    return jax.vmap(jax.random.key)(np.arange(seed, seed + num_seeds, dtype=np.uint32))


def check_run_dir(run_dir: str | Path) -> Path:
    """The directory as a path.

    Raises:
      InputError: if it holds anything already, is a file, or cannot be written.
    """
    path = Path(run_dir)
    if path.exists() and not path.is_dir():
        raise InputError(f"run_dir {path} is a file; give a directory")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"run_dir {path} is not empty; give another, so that no run is lost")
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(f"run_dir {path} cannot be made: {existing} is not writable; give another")
    return path


def summarize(rollouts: Rollouts, spec: Spec) -> dict[str, Any]:
    """A row of `evaluations.jsonl`: the means over episodes by seed, and every episode's return."""
    row = {
        "return": rollouts.episode_return.mean(-1),
        "discounted_return": rollouts.discounted_return.mean(-1),
        "length": rollouts.length.mean(-1),
        "episode_returns": rollouts.episode_return,
        "actual_value": rollouts.actual_value.mean(-1),
    }
    if spec.reference_scores is not None:
        row["score"] = scores.normalized_score(row["return"], spec.reference_scores)
    if not np.isnan(rollouts.success).any():
        row["success"] = rollouts.success.mean(-1)
    if not np.isnan(rollouts.learned_value).all():
        row["learned_value"] = rollouts.learned_value.mean(-1)
        row["value_error"] = rollouts.value_error.mean(-1)
    return {k: np.asarray(v).tolist() for k, v in row.items()}


def describe_environment(spec: Spec, command: Sequence[str]) -> dict[str, Any]:
    """What a number is to be traced to: versions, device, commit, data and command."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": environments.versions(PACKAGES),
        "devices": [str(device) for device in jax.devices()],
        "commit": _commit(),
        "dataset_fingerprint": spec.fingerprint,
        "command": list(command),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _commit() -> str | None:
    """The commit of a source checkout, with `-dirty` if it was changed; None elsewhere."""
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    if not git("ls-files", Path(__file__).name):  # installed below someone else's repository
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))


def append_json(path: Path, row: dict[str, Any]) -> None:
    """A line more of JSON, null in it for what is not finite."""
    with path.open("a") as file:
        file.write(json.dumps(_finite(row), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The value with null, which JSON knows, for NaN and infinity, which it does not."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
