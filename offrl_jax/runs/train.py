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
from offrl_jax.algorithms import check_own_name
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Data
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.summary import summary
from offrl_jax.data.transforms import with_discount
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts
from offrl_jax.evaluation.watchdog import Halted
from offrl_jax.networks.serialization import settings_to_json
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
    """The result of `train` in memory.

    Attributes:
      step: Updates taken in all phases, including earlier sessions.
      state: The last states, with leading axis S; for a diverged seed, its last finite state.
      diverged: For each seed, how and when it diverged, or None.
      failed: Why the run counts as failed, or None.
      metrics: Metrics of the last chunk, shape (S,) each, including the diagnostics; NaN for
        diverged seeds.
      rollouts: The last evaluation; None if it failed or there was none.
      num_steps: Updates taken in this session.
      seconds: Wall time of this session by part, compiling included: `start`, `training`,
        `diagnostics`, `evaluation` (waiting for it), `saving` and `rest` make up the whole.
      evaluation_seconds: Total time of evaluations, whether beside training or waited for.
      run_dir: The run directory, or None.
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
    """Trains S seeds in one program and writes a complete run directory; or H settings × S seeds
    in one program, and H such directories.

    The directory holds `config.json`, `environment.json`, `metrics.jsonl` (a row a chunk),
    `evaluations.jsonl` (a row an evaluation), `checkpoints/`, `policy/`, and at the end `DONE` or
    `FAILED.json`. An interrupted run resumes from its newest whole checkpoint when `train`
    is called with the same arguments again, and ends with the same numbers as one that was never
    interrupted: bit for bit with the same versions, hardware and number of threads.

    An evaluation runs beside the chunks that follow it. Training waits for it before the next
    evaluation and before it saves, so that a checkpoint has all rows up to it.

    A seed that diverges is frozen at the end of the last chunk in which it was finite; the others
    continue with exactly the same numbers.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; or a list of H that differ only in floats, for `setting_dirs`.
      dataset: The data, transformed.
      run_dir: A new or empty directory, or that of the run to resume; None keeps everything in
        memory and writes nothing. With `setting_dirs`, the directory where the settings train
        together, which is not needed once all of theirs exist.
      num_steps: Updates per seed, a multiple of `num_evaluations`. If training has phases, updates
        of the last one, in addition to those of the others.
      num_seeds: Number of seeds S.
      seed: Seed i of the run is `seed + i`, so three seeds equal three runs of one.
      seed_batch: See `learner.learn`.
      matmul_precision: See `learner.learn`; does not affect evaluations and diagnostics.
      host_memory_mb: Memory for batches of a `HostDataset`, including those in training.
      num_evaluations: Number of evaluations, equally spaced over `num_steps`, the last at the end.
      num_evaluation_episodes: Episodes per seed and evaluation; with 0 no environment is made.
      evaluation_timeout: Maximum number of seconds for an environment step; after it the evaluation
        counts as failed and training continues.
      checkpoint_seconds: Minimum number of seconds between checkpoints at the ends of chunks. Every
        evaluation saves one too.
      keep_last: How many of the newest checkpoints to keep.
      keep_every: Also keep checkpoints at steps divisible by this.
      allow_config_change: Resume although the settings or the data differ from the directory's.
      divergence_limit: A metric beyond it counts as diverged.
      fail_on_divergence: Count the run as failed if any seed diverged, not only if all did.
      make_env: Makes the evaluation environment, in place of the one that the dataset names.
      record: Further settings for `config.json`.
      command: The command line, for `environment.json`.
      report: Called with the step and numbers to show after every chunk and evaluation, and without
        numbers when a run resumes. Those of an evaluation may come after those of later chunks.
      log: Called with every row of `metrics.jsonl` and `evaluations.jsonl`.
      stop: Called after every chunk and while waiting for an evaluation; True saves and stops. The
        evaluation may take some seconds more; if it does not end, training since then is not saved.
      setting_dirs: With a list of settings, the directories of their runs, as if each had been
        trained alone (`split.leave`); in memory, only names. Results then have H·S runs on one
        axis, the seeds of a setting next to each other.

    Raises:
      InputError: if the directory or the settings cannot be used, before anything is written, or if
        the seeds do not fit into the device's memory.
      AlreadyFinished: if the directory's run is done.
      Stopped: if `stop` returned True.
      RunFailed: if rows or checkpoints cannot be written.
    """
    clock = time.perf_counter()
    configs = config if isinstance(config, list) else [config]
    if len(setting_dirs) != (len(configs) if isinstance(config, list) else 0):
        raise InputError(
            f"{len(setting_dirs)} setting_dirs for {len(configs)} settings; give a list of "
            "settings with a directory for each, or a setting without any"
        )
    dispatches = check(
        algorithm,
        configs,
        dataset,
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
    if num_evaluation_episodes < 0:
        raise InputError(
            f"num_evaluation_episodes={num_evaluation_episodes}; give 0 for no evaluation, or more"
        )
    devices.check_matmul_precision(matmul_precision)
    if run_dir is not None:
        check_own_name(algorithm)
        check_run_dir(run_dir)
    keys, names = seed_keys(seed, num_seeds), [f"seed {i} of the run" for i in range(num_seeds)]
    if setting_dirs:
        config, keys = axes.side_by_side(configs, keys)
        names = [f"seed {i} of {Path(d).name}" for d in setting_dirs for i in range(num_seeds)]
    dataset = with_discount(dataset, getattr(configs[0], "discount", dataset.discount))
    written = [settings_to_json(config) for config in configs]
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
                Evaluator,
                algorithm,
                dataset,
                runs=keys.shape,
                num_episodes=num_evaluation_episodes,
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
            _failures_explained(
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
            algorithm,
            config,
            dataset,
            keys=keys,
            names=names,
            directory=directory,
            checkpoints=checkpoints,
            log=log,
            report=report,
            feed=feed,
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
                        end - session.step,
                        seed_batch=seed_batch,
                        matmul_precision=matmul_precision,
                        divergence_limit=divergence_limit,
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
                directory.path / "policy",
                algorithm,
                config,
                state=session.state,
                spec=dataset.spec,
                preprocessing=dataset.preprocessing,
                diverged=session.diverged,
            )
        checkpoints.close()
        seconds = {"start": start} | session.seconds
        seconds["rest"] = time.perf_counter() - clock - sum(seconds.values())
        failed = lost_seeds.failure(session.diverged, fail_on_divergence)
        facts = {"step": session.step, "diverged": session.diverged, "seconds": seconds}
        if setting_dirs and run_dir is not None:
            split.leave(
                [Path(d) for d in setting_dirs],
                algorithm,
                configs,
                dataset=dataset,
                together=directory.path,
                state=session.state,
                facts=facts,
                fail_on_divergence=fail_on_divergence,
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
def _failures_explained(
    directory: RunDirectory, num_at_once: int, what: str, may_change: bool
) -> Iterator[None]:
    """Writes the reason to the directory, unless its run was done already, and turns errors that a
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
                f"not enough device memory to train {num_at_once} {what} of this size at once; "
                f"give {batch}fewer {what}, smaller networks or a smaller batch"
            ) from error
        if isinstance(error, OSError):
            raise RunFailed(
                f"the run in {directory.path} stopped ({error}); what was saved before is intact: "
                "remove the cause, such as a full disk, and make the same call again"
            ) from error
        raise
