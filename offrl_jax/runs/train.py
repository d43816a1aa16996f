"""Runs: learn, evaluate, log and save, chunk by chunk, into a run directory."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offrl_jax import learner
from offrl_jax.runs import split
from offrl_jax.runs import lost_seeds
from offrl_jax.algorithms.base import Algorithm, Phase, check_actions, phases_of
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.config import validate
from offrl_jax.data.dataset import Data
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.summary import summary
from offrl_jax.data.transforms import with_discount
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts
from offrl_jax.evaluation.watchdog import Halted
from offrl_jax.runs.outcomes import RunFailed, Stopped, is_out_of_memory
from offrl_jax.runs.policy import save_policy
from offrl_jax.runs.provenance import describe_environment
from offrl_jax.runs.directory import RunDirectory, check_run_dir
from offrl_jax.runs.loop import Evaluation, Session
from offrl_jax.types import InputError, Key

__all__ = [
    "Result",
    "check",
    "check_run_dir",
    "chunk_size",
    "schedule",
    "seed_keys",
    "train",
]

MAX_CHUNK = 1000  # updates between two signs of life


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves in memory.

    Attributes:
      state: The last states, S in front; of a diverged seed the last finite one.
      diverged: By seed, what told that it diverged and when, or None.
      failed: Why the run counts as failed, or None.
      metrics: Of the last chunk, (S,) each, the diagnostics among them; NaN for diverged seeds.
      rollouts: The last evaluation, or None without one or where it failed.
      num_steps: Updates taken in this session.
      seconds: Wall time of this session by part, compiling included: `start`, `training`,
        `diagnostics`, `evaluation` (waiting for it), `saving` and `rest` make up the whole.
      evaluation_seconds: What evaluations took, beside the other parts or waited for.
      run_dir: Where the rest is.
    """

    state: Any
    diverged: list[str | None]
    failed: str | None
    metrics: dict[str, np.ndarray]
    rollouts: Rollouts | None
    num_steps: int
    seconds: dict[str, float]
    evaluation_seconds: float
    run_dir: Path


def train(
    algorithm: Algorithm,
    config: Any,
    dataset: Data,
    *,
    run_dir: str | Path,
    num_steps: int,
    num_seeds: int = 1,
    seed: int = 0,
    seed_batch: int | None = None,
    matmul_precision: str = "default",
    host_memory_mb: int = 512,
    num_evaluations: int = 5,
    num_evaluation_episodes: int = 10,
    evaluation_timeout: float = 300.0,
    checkpoint_seconds: float = 60.0,
    keep_last: int = 2,
    keep_every: int | None = None,
    allow_config_change: bool = False,
    divergence_limit: float = lost_seeds.LIMIT,
    fail_on_divergence: bool = False,
    record: dict[str, Any] | None = None,
    command: Sequence[str] = (),
    report: Callable[[int, dict[str, float]], None] = lambda step, numbers: None,
    log: Callable[[dict[str, Any]], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
    setting_dirs: Sequence[str | Path] = (),
) -> Result:
    """Trains S seeds in one program and leaves a complete run directory; or H settings × S seeds
    in one program, and H such directories.

    The directory holds `config.json`, `environment.json`, `metrics.jsonl` (a row a chunk),
    `evaluations.jsonl` (a row an evaluation), `checkpoints/`, `policy/`, and at the end `DONE` or
    `FAILED.json`. A run that was interrupted goes on from its newest whole checkpoint when `train`
    is called with the same arguments again, and ends with the numbers that it would have had: bit
    for bit with the same versions, hardware and number of threads.

    An evaluation takes place beside the chunks that follow it. It is waited for before the next one
    and before anything is saved, so that a checkpoint has all rows up to it.

    A seed that diverges is frozen at the end of the last chunk in which it was finite; the others
    go on with the very same numbers.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; or a list of H that differ in floats alone, for `setting_dirs`.
      dataset: Already transformed as wanted.
      run_dir: A new or empty directory, or that of the run to go on with. With `setting_dirs` it is
        where the settings are trained together, and of no more use once all of those are there.
      num_steps: Updates a seed, a multiple of `num_evaluations`; where training has phases, of the
        last one, and those of the others come on top.
      num_seeds: S.
      seed: Seed i of the run is `seed + i`, so three seeds equal three runs of one.
      seed_batch: See `learner.learn`.
      matmul_precision: See `learner.learn`; evaluations and diagnostics are not concerned.
      host_memory_mb: For batches of a `HostDataset`, those that are trained on included.
      num_evaluations: Evaluations, equally spaced over `num_steps`, the last at the end.
      num_evaluation_episodes: Episodes a seed and evaluation; 0 never makes an environment.
      evaluation_timeout: Seconds for a step of an environment, after which the evaluation counts as
        failed and training goes on.
      checkpoint_seconds: A chunk that ends this long after the last checkpoint saves one. Every
        evaluation does too.
      keep_last: How many of the newest checkpoints to keep.
      keep_every: Keep those of steps divisible by this besides.
      allow_config_change: Go on although the settings or the data differ from the directory's.
      divergence_limit: A metric beyond it counts as diverged.
      fail_on_divergence: Count the run as failed if any seed diverged, not only if all did.
      record: Further settings to keep in `config.json`.
      command: What was typed, to keep in `environment.json`.
      report: Called with the step and numbers to show after every chunk and evaluation, and with
        no numbers where a run goes on. An evaluation's may come after those of later chunks.
      log: Called with every row of `metrics.jsonl` and `evaluations.jsonl`.
      stop: Asked after every chunk and where an evaluation is waited for whether to save and stop.
        The evaluation may go on for some seconds; without its row what was learnt since is lost.
      setting_dirs: With a list of settings, the directories that their runs are left in, as if each
        had been trained alone (`cells.leave`). In results there are H·S runs on one axis then, the
        seeds of a setting next to each other.

    Raises:
      InputError: if the directory cannot be used or the settings cannot work, when nothing is
        written, or if the device's memory does not hold the seeds.
      AlreadyFinished: if the directory's run is done.
      Stopped: if `stop` said so.
      RunFailed: if rows or checkpoints cannot be written.
    """
    clock = time.perf_counter()
    configs = config if isinstance(config, list) else [config]
    if len(setting_dirs) != (len(configs) if isinstance(config, list) else 0):
        raise InputError(
            f"{len(setting_dirs)} setting_dirs for {len(configs)} settings; give a list of these "
            "with a directory for each, or one without any"
        )
    dispatches = check(
        *(algorithm, configs, dataset),
        num_steps=num_steps,
        num_evaluations=num_evaluations,
        num_seeds=num_seeds,
        seed=seed,
        seed_batch=seed_batch,
    )
    if keep_last < 1 or (keep_every is not None and keep_every < 1):
        raise InputError(f"keep_last={keep_last} and keep_every={keep_every}; give at least 1 each")
    if not (evaluation_timeout > 0 and checkpoint_seconds >= 0 and divergence_limit > 0):
        raise InputError(
            f"evaluation_timeout={evaluation_timeout}, checkpoint_seconds={checkpoint_seconds} and "
            f"divergence_limit={divergence_limit}; give positive numbers"
        )
    learner.check_matmul_precision(matmul_precision)
    check_run_dir(run_dir)
    keys, names = seed_keys(seed, num_seeds), [f"seed {i} of the run" for i in range(num_seeds)]
    if setting_dirs:
        config, keys = learner.side_by_side(configs, keys)
        names = [f"seed {i} of {Path(d).name}" for d in setting_dirs for i in range(num_seeds)]
    dataset = with_discount(dataset, getattr(configs[0], "discount", dataset.discount))
    written = [dataclasses.asdict(config) for config in configs]
    settings = {
        "algorithm": algorithm.name,
        "config": written if setting_dirs else written[0],
        "num_steps": num_steps,
        "num_seeds": num_seeds,
        "seed": seed,
        "seed_batch": seed_batch,
        **({} if matmul_precision == "default" else {"matmul_precision": matmul_precision}),
        "num_evaluations": num_evaluations,
        "num_evaluation_episodes": num_evaluation_episodes,
        "divergence_limit": divergence_limit,
        "dataset": dataset.spec.to_json(),
        "discount": dataset.discount,
        "preprocessing": {k: v.tolist() for k, v in dataset.preprocessing._asdict().items()},
    } | (record or {})
    with contextlib.ExitStack() as stack:
        evaluation = feed = None
        if isinstance(dataset, HostDataset):
            sizes = {"memory_mb": host_memory_mb, "seed_batch": seed_batch}
            feed = learner.feed(algorithm, config, dataset, keys, **sizes)
            stack.callback(feed.close)
        if num_evaluation_episodes > 0:
            make = partial(Evaluator, algorithm, dataset, keys.shape, num_evaluation_episodes)
            evaluation = Evaluation(make, evaluation_timeout, stop)
            stack.callback(evaluation.close)
        environment = describe_environment(command)
        environment["dataset_fingerprint"] = dataset.spec.fingerprint
        environment["dataset"] = summary(dataset)
        environment["data_placement"] = "device" if feed is None else "host"
        directory = RunDirectory(run_dir, settings, environment, allow_config_change)
        stack.callback(directory.close)
        stack.enter_context(
            _failures_told(
                directory,
                seed_batch or len(keys),
                "runs" if setting_dirs else "seeds",
                allow_config_change,
            )
        )
        checkpoints = Checkpoints(directory.path / "checkpoints", keep_last, keep_every)
        stack.callback(checkpoints.abandon)
        session = Session(
            *(algorithm, config, dataset, keys, names, directory, checkpoints, log, report),
            feed,
        )
        ends = list(itertools.accumulate(chunk for chunk, _ in dispatches))
        total = ends[-1]
        if session.step > total:
            raise InputError(
                f"the run in {run_dir} is at step {session.step} already, beyond the {total} "
                "asked for; give more steps or another run_dir"
            )
        evaluated = {end for end, (_, evaluates) in zip(ends, dispatches, strict=True) if evaluates}
        session.begin(evaluation is not None and session.step in evaluated)
        start = time.perf_counter() - clock
        if (first_step := session.step) > 0:
            report(first_step, {})
        try:
            for end in ends:
                if end < session.step or session.is_lost.all():
                    continue
                if stop():
                    raise Halted
                if end > session.step:
                    session.learn(
                        *(end - session.step, seed_batch, matmul_precision, divergence_limit)
                    )
                    if end in evaluated or session.seconds_since_saved() >= checkpoint_seconds:
                        session.save()
                if end in evaluated and evaluation is not None and not session.is_lost.all():
                    session.evaluate(evaluation)
            session.save()
        except Halted:
            with contextlib.suppress(Halted):  # else an evaluated step is gone on from
                session.save()
            checkpoints.close()
            raise Stopped(
                f"stopped at step {session.saved_step:,} of {total:,}, which is saved; the same "
                f"command with --run_dir={run_dir} goes on from there"
            ) from None
        if not setting_dirs:
            save_policy(
                *(directory.path / "policy", algorithm, config, session.state, dataset.spec),
                *(dataset.preprocessing, session.diverged),
            )
        checkpoints.close()
        seconds = {"start": start} | session.seconds
        seconds["rest"] = time.perf_counter() - clock - sum(seconds.values())
        failed = lost_seeds.failure(session.diverged, fail_on_divergence)
        facts = {"step": session.step, "diverged": session.diverged, "seconds": seconds}
        if setting_dirs:
            split.leave(
                *([Path(d) for d in setting_dirs], algorithm, configs, dataset),
                *(directory.path, session.state, facts, fail_on_divergence),
            )
        else:
            directory.end(failed, facts)
    return Result(
        state=session.state,
        diverged=session.diverged,
        failed=failed,
        metrics=session.metrics,
        rollouts=session.rollouts,
        num_steps=session.step - first_step,
        seconds=seconds,
        evaluation_seconds=evaluation.seconds if evaluation is not None else 0.0,
        run_dir=directory.path,
    )


def check(
    algorithm: Algorithm,
    configs: Sequence[Any],
    dataset: Data,
    *,
    num_steps: int,
    num_evaluations: int,
    num_seeds: int,
    seed: int,
    seed_batch: int | None,
) -> list[tuple[int, bool]]:
    """What `train` would dispatch (`schedule`), of settings to be trained side by side.

    Raises:
      InputError: if some setting cannot be trained on the data, or not in so many steps.
    """
    for config in configs:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(config)):
            raise InputError(
                "a run takes one setting, not a stack of them; use `learn` for several"
            )
        validate(config)
        learner.check_data(algorithm, config, dataset)
    config = configs[0]
    check_actions(algorithm, config, dataset.spec)
    dispatches = schedule(phases_of(algorithm, config), num_steps, num_evaluations)
    if config.batch_size > len(dataset):
        raise InputError(
            f"batch_size={config.batch_size} is more than the {len(dataset)} transitions of "
            f"{dataset.spec.name}; give a smaller one"
        )
    if len({getattr(config, "discount", None) for config in configs}) > 1:
        raise InputError(
            "settings trained side by side share their data's returns to go, so they cannot differ "
            "in discount; train them one after another"
        )
    seed_keys(seed, num_seeds)
    learner.check_seed_batch(seed_batch, len(configs) * num_seeds)
    return dispatches


@contextlib.contextmanager
def _failures_told(
    directory: RunDirectory, num_at_once: int, what: str, may_change: bool
) -> Iterator[None]:
    """Leaves the reason in the directory, unless its run was done already, and turns errors that a
    user can mend into sentences."""
    try:
        yield
    except (Stopped, InputError):
        raise
    except Exception as error:
        if not directory.is_done():
            with contextlib.suppress(OSError):  # the disk may be what failed
                directory.end(f"{type(error).__name__}: {error}", {})
        if is_out_of_memory(error):
            fewer = max((d for d in range(1, num_at_once) if num_at_once % d == 0), default=None)
            change = "" if may_change else " --allow_config_change"
            batch = f"--seed_batch={fewer}{change}, or " if fewer else ""
            raise InputError(
                f"the device has not the memory for {num_at_once} {what} of this size at once; "
                f"give {batch}fewer {what}, smaller networks or a smaller batch"
            ) from error
        if isinstance(error, OSError):
            raise RunFailed(
                f"the run in {directory.path} could not go on ({error}); what was saved before is "
                "whole: mend the cause, such as a full disk, and run the same command again"
            ) from error
        raise


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
