"""Runs: learn, evaluate, log and save, chunk by chunk, into a run directory."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax import axes, devices, learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Data
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.summary import summary
from offrl_jax.data.transforms import with_discount
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts
from offrl_jax.evaluation.watchdog import Halted
from offrl_jax.runs import lost_seeds, split
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.directory import RunDirectory, check_run_dir
from offrl_jax.runs.in_memory import InMemory, NoCheckpoints
from offrl_jax.runs.loop import Evaluation, Session
from offrl_jax.runs.outcomes import RunFailed, Stopped, is_out_of_memory
from offrl_jax.runs.policy import save_policy
from offrl_jax.runs.provenance import describe_environment
from offrl_jax.runs.schedule import check, seed_keys
from offrl_jax.types import InputError


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a run leaves in memory.

    Attributes:
      step: Updates taken, those of earlier sessions and of all phases among them.
      state: The last states, S in front; of a diverged seed the last finite one.
      diverged: By seed, what told that it diverged and when, or None.
      failed: Why the run counts as failed, or None.
      metrics: Of the last chunk, (S,) each, the diagnostics among them; NaN for diverged seeds.
      rollouts: The last evaluation, or None without one or where it failed.
      num_steps: Updates taken in this session.
      seconds: Wall time of this session by part, compiling included: `start`, `training`,
        `diagnostics`, `evaluation` (waiting for it), `saving` and `rest` make up the whole.
      evaluation_seconds: What evaluations took, beside the other parts or waited for.
      run_dir: Where the rest is, or None.
      in_memory: The rest of a run without a directory, or None.
    """

    step: int
    state: Any
    diverged: list[str | None]
    failed: str | None
    metrics: dict[str, np.ndarray]
    rollouts: Rollouts | None
    num_steps: int
    seconds: dict[str, float]
    evaluation_seconds: float
    run_dir: Path | None
    in_memory: InMemory | None

    def __repr__(self) -> str:
        seeds, seconds = len(self.diverged), sum(self.seconds.values())
        where = self.run_dir or "memory"
        return f"Result({self.num_steps:,} steps of {seeds} seeds in {seconds:.3g} s, in {where})"


def train(
    algorithm: Algorithm,
    config: Any,
    dataset: Data,
    *,
    run_dir: str | Path | None,
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
    make_env: Callable[[], Any] | None = None,
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
    `FAILED.json`. An interrupted run resumes from its newest whole checkpoint when `train`
    is called with the same arguments again, and ends with the numbers that it would have had: bit
    for bit with the same versions, hardware and number of threads.

    An evaluation takes place beside the chunks that follow it. It is waited for before the next one
    and before anything is saved, so that a checkpoint has all rows up to it.

    A seed that diverges is frozen at the end of the last chunk in which it was finite; the others
    continue with the very same numbers.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; or a list of H that differ in floats alone, for `setting_dirs`.
      dataset: Already transformed as wanted.
      run_dir: A new or empty directory, or that of the run to resume; None keeps everything in
        memory and writes nothing. With `setting_dirs` it is where the settings are trained
        together, and of no more use once all of those are there.
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
        failed and training continues.
      checkpoint_seconds: A chunk that ends this long after the last checkpoint saves one. Every
        evaluation does too.
      keep_last: How many of the newest checkpoints to keep.
      keep_every: Keep those of steps divisible by this besides.
      allow_config_change: Resume although the settings or the data differ from the directory's.
      divergence_limit: A metric beyond it counts as diverged.
      fail_on_divergence: Count the run as failed if any seed diverged, not only if all did.
      make_env: Makes the evaluation environment, in place of the one that the dataset names.
      record: Further settings to keep in `config.json`.
      command: What was typed, to keep in `environment.json`.
      report: Called with the step and numbers to show after every chunk and evaluation, and with
        no numbers where a run resumes. An evaluation's may come after those of later chunks.
      log: Called with every row of `metrics.jsonl` and `evaluations.jsonl`.
      stop: Asked after every chunk and where an evaluation is waited for whether to save and stop.
        The evaluation may take some seconds more; without its row what was learnt since is lost.
      setting_dirs: With a list of settings, the directories that their runs are left in, as if each
        had been trained alone (`split.leave`); in memory nothing but names. In results there are
        H·S runs on one axis then, the seeds of a setting next to each other.

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
    devices.check_matmul_precision(matmul_precision)
    if run_dir is not None:
        check_run_dir(run_dir)
    keys, names = seed_keys(seed, num_seeds), [f"seed {i} of the run" for i in range(num_seeds)]
    if setting_dirs:
        config, keys = axes.side_by_side(configs, keys)
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
            make = partial(
                *(Evaluator, algorithm, dataset, keys.shape, num_evaluation_episodes),
                make_env=make_env,
            )
            evaluation = Evaluation(make, evaluation_timeout, stop)
            stack.callback(evaluation.close)
        environment = describe_environment(command)
        environment["dataset_fingerprint"] = dataset.spec.fingerprint
        environment["dataset"] = summary(dataset)
        environment["data_placement"] = "device" if feed is None else "host"
        if run_dir is None:
            directory, checkpoints = InMemory(settings, environment), NoCheckpoints()
        else:
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
        if run_dir is not None:
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
            with contextlib.suppress(Halted):  # else the run resumes from an evaluated step
                session.save()
            checkpoints.close()
            if run_dir is None:
                raise Stopped(
                    f"stopped at step {session.step:,} of {total:,} and not saved; give run_dir to "
                    "make a run that can be resumed"
                ) from None
            raise Stopped(
                f"stopped at step {session.saved_step:,} of {total:,}, which is saved; the same "
                f"call with run_dir={run_dir} resumes from there"
            ) from None
        if not setting_dirs and run_dir is not None:
            save_policy(
                *(directory.path / "policy", algorithm, config, session.state, dataset.spec),
                *(dataset.preprocessing, session.diverged),
            )
        checkpoints.close()
        seconds = {"start": start} | session.seconds
        seconds["rest"] = time.perf_counter() - clock - sum(seconds.values())
        failed = lost_seeds.failure(session.diverged, fail_on_divergence)
        facts = {"step": session.step, "diverged": session.diverged, "seconds": seconds}
        if setting_dirs and run_dir is not None:
            split.leave(
                *([Path(d) for d in setting_dirs], algorithm, configs, dataset),
                *(directory.path, session.state, facts, fail_on_divergence),
            )
        else:
            directory.end(failed, facts)
    return Result(
        step=session.step,
        state=session.state,
        diverged=session.diverged,
        failed=failed,
        metrics=session.metrics,
        rollouts=session.rollouts,
        num_steps=session.step - first_step,
        seconds=seconds,
        evaluation_seconds=evaluation.seconds if evaluation is not None else 0.0,
        run_dir=directory.path,
        in_memory=directory if run_dir is None else None,
    )


@contextlib.contextmanager
def _failures_told(
    directory: RunDirectory, num_at_once: int, what: str, may_change: bool
) -> Iterator[None]:
    """Leaves the reason in the directory, unless its run was done already, and turns errors that a
    user can fix into sentences."""
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
            change = "" if may_change else " with allow_config_change=True"
            batch = f"seed_batch={fewer}{change}, or " if fewer else ""
            raise InputError(
                f"the device has too little memory to train {num_at_once} {what} of this size at "
                f"once; give {batch}fewer {what}, smaller networks or a smaller batch"
            ) from error
        if isinstance(error, OSError):
            raise RunFailed(
                f"the run in {directory.path} stopped ({error}); what was saved before is whole: "
                "remove the cause, such as a full disk, and make the same call again"
            ) from error
        raise
