"""Trains every setting of a grid in one call. The result is a `Sweep`, which prints as a table."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offrl_jax.algorithms.base import Algorithm, phases_of
from offrl_jax.api import prepare
from offrl_jax.api.jobs import Job, Plan
from offrl_jax.api.prepare import Environment
from offrl_jax.api.run import Run, in_memory, load_run
from offrl_jax.data import Data
from offrl_jax.networks.values import Networks
from offrl_jax.presets.preset import Preset
from offrl_jax.reports import recorded
from offrl_jax.reports import sweep as report
from offrl_jax.runs import split
from offrl_jax.runs import train as training
from offrl_jax.runs.messages import say
from offrl_jax.runs.outcomes import RunFailed, Stopped
from offrl_jax.runs.progress import Progress
from offrl_jax.runs.sweep_directory import SweepDirectory, check_sweep_dir
from offrl_jax.types import InputError, did_you_mean

Source = Data | str | os.PathLike


class Runs(Mapping):
    """Runs by name; those in a directory are loaded on access."""

    def __init__(self, runs: Mapping[str, Run | Path], algorithm: Algorithm, networks: Networks):
        self._runs, self._algorithm, self._networks = runs, algorithm, networks

    def __getitem__(self, name: str) -> Run:
        run = self._runs[name]
        if isinstance(run, Run):
            return run
        return load_run(run, algorithm=self._algorithm, networks=self._networks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Runs({len(self)} of {self._algorithm.name}, the first {next(iter(self))!r})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """A run for each setting of a grid. Prints as a table with the highest mean first, which says
    how many settings the best was chosen from.

    Attributes:
      runs: The `Run` of each setting on each dataset, by name.
      rows: The same as rows of the table: values, scores by seed, mean with its 95% interval.
      next_seed: The first seed that no run has used.
      path: The sweep's directory; None in memory.
    """

    runs: Runs
    rows: list[report.Row]
    next_seed: int
    path: Path | None = None

    @property
    def best(self) -> Run:
        """The run with the highest mean score; runs whose seeds all have a score take precedence.

        The run is chosen by these scores, so its mean is biased upwards: to report a number, train
        the setting with new seeds.

        Raises:
          InputError: if there are several datasets, see `best_on`, or no scores.
        """
        datasets = list(dict.fromkeys(row.dataset for row in self.rows))
        if len(datasets) > 1:
            raise InputError(
                f"the sweep has several datasets ({', '.join(datasets)}); use best_on(…) for one"
            )
        return self.best_on(datasets[0])

    def best_on(self, dataset: str) -> Run:
        """As `best`, on the dataset of that name.

        Raises:
          InputError: if there is no such dataset, or no run on it has a score.
        """
        rows = [row for row in self.rows if row.dataset == dataset]
        if not rows:
            known = list(dict.fromkeys(row.dataset for row in self.rows))
            raise InputError(
                f"the sweep has no dataset {dataset!r}{did_you_mean(dataset, known)} (it has "
                f"{', '.join(known)})"
            )
        row = report.best(report.ranked(rows)[dataset])
        if math.isnan(row.mean.value):
            raise InputError(
                f"no run on {dataset} has a score to choose by; evaluate the runs separately, "
                "or sweep with num_evaluation_episodes above 0"
            )
        return self.runs[row.run.name]

    def __repr__(self) -> str:
        return report.text(self.rows, self.next_seed)


def sweep(
    algorithm: str | Algorithm,
    data: Source | Sequence[Source] | Mapping[str, Source],
    *,
    grid: Mapping[str, Sequence[Any]],
    config: Any = None,
    preset: str | Preset = "auto",
    recipe: str | Sequence[str] = (),
    environment: Environment = None,
    sweep_dir: str | Path | None = None,
    num_seeds: int = 1,
    seed: int = 0,
    runs_per_job: int | None = None,
    best_fraction: float = 1.0,
    progress: bool = True,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Sweep:
    """Trains every setting of a grid with S seeds each, on one dataset or several.

    Settings that differ only in floats train together in one program, with all of their seeds. Each
    value of another field, each discount and each dataset is a job of its own; jobs run one after
    another. With a `sweep_dir`, the same call resumes an interrupted sweep and does not train
    finished settings again.

    Args:
      algorithm: One of `ALGORITHMS`, by name, or your own.
      data: A dataset or its name or path, or several of them: a list, or a dictionary by name.
      grid: Values to try by field of the config: `{"expectile": [0.7, 0.9]}`.
      config: As for `train`: the settings that do not vary.
      preset: As for `train`.
      recipe: As for `train`.
      environment: As for `train`.
      sweep_dir: A new directory or an earlier sweep's, for the run directory of each setting and
        the table; None keeps everything in memory.
      num_seeds: Number of seeds S per setting.
      seed: The first seed.
      runs_per_job: Maximum number of runs (settings × seeds) in a job, at least `num_seeds`.
      best_fraction: As for `train`.
      progress: Whether to show progress.
      stop: As for `runs.train.train`.
      **settings: As for `train`, except checkpoints and loggers; `seed_batch` must divide the
        number of runs in a job.

    Raises:
      InputError: if a name is unknown (the nearest one is suggested) or a setting cannot be
        trained; nothing is trained then.
      Stopped: if `stop` returned True.
      RunFailed: if rows, checkpoints or the table cannot be written.
    """
    if sweep_dir is not None:
        check_sweep_dir(sweep_dir)
    sources = _named(data)
    plan = Plan(
        prepare.find_algorithm(algorithm),
        list(sources),
        lambda name: prepare.find_dataset(sources[name], environment),
        grid=grid,
        config=config,
        preset=preset,
        recipe=recipe,
        environment=environment,
        best_fraction=best_fraction,
        runs_per_job=runs_per_job,
        num_seeds=num_seeds,
        seed=seed,
        **settings,
    )
    checked = plan.settings  # before anything is trained or written
    announce = say if progress else None
    if sweep_dir is None:
        return _in_memory(plan, announce, stop)
    with contextlib.closing(SweepDirectory(sweep_dir, checked)) as directory:
        train_jobs(plan, range(1, len(plan.jobs) + 1), directory, announce, stop)
        return finished(plan, directory)


def train_jobs(
    plan: Plan,
    numbers: Iterable[int],
    directory: SweepDirectory,
    announce: Callable[[str], None] | None,
    stop: Callable[[], bool],
) -> None:
    """Trains the numbered jobs, counted from 1, unless the directory has their runs.

    Args:
      plan: The jobs of the sweep.
      numbers: Numbers of the jobs to train.
      directory: Directory of the sweep.
      announce: Called with a line when a job begins; with None no progress is shown.
      stop: As for `sweep`.
    """
    for number in numbers:
        job = plan.jobs[number - 1]
        if not is_done(job, directory):
            dirs = [directory.run_dir(name) for name in job.names]
            then = f"the same call with sweep_dir={directory.path} resumes from there"
            _train(plan, number, directory.job_dir(number), dirs, then, announce, stop)
        directory.forget_job(number)


def is_done(job: Job, directory: SweepDirectory) -> bool:
    return all(map(directory.is_done, job.names))


def finished(plan: Plan, directory: SweepDirectory) -> Sweep:
    """A sweep whose jobs are done, with its table written.

    Raises:
      InputError: if a run's directory is damaged.
      RunFailed: if the table cannot be written.
    """
    paths = {name: directory.run_dir(name) for job in plan.jobs for name in job.names}
    found = _with_rows(plan, paths, map(recorded.read, paths.values()), directory.path)
    try:
        report.write(directory.path, found.rows, plan.floats, found.next_seed)
    except OSError as error:
        raise RunFailed(
            f"the table cannot be written ({error}); remove the cause and make the same call again"
        ) from error
    return found


def _in_memory(
    plan: Plan, announce: Callable[[str], None] | None, stop: Callable[[], bool]
) -> Sweep:
    runs: dict[str, Run] = {}
    for number, job in enumerate(plan.jobs, 1):
        then = "give sweep_dir to make a sweep that can be resumed"
        result = _train(plan, number, None, list(map(Path, job.names)), then, announce, stop)
        dataset, _ = plan.prepared(job.dataset)
        whole = result.in_memory
        parts = split.apart(
            job.configs,
            settings=whole.settings,
            environment=whole.environment,
            metrics=whole.metrics.rows,
            evaluations=whole.evaluations.rows,
            facts=whole.facts,
            fail_on_divergence=plan.options["fail_on_divergence"],
        )
        for i, (name, kept) in enumerate(zip(job.names, parts, strict=True)):
            state = split.state_of(result.state, i, len(job.names))
            run = in_memory(kept, state, plan.algorithm, plan.networks)
            runs[name] = dataclasses.replace(run, dataset=dataset)
    records = [dataclasses.replace(run.recorded(), path=Path(name)) for name, run in runs.items()]
    return _with_rows(plan, runs, records, None)


def _train(
    plan: Plan,
    number: int,
    run_dir: Path | None,
    setting_dirs: Sequence[Path],
    then: str,
    announce: Callable[[str], None] | None,
    stop: Callable[[], bool],
) -> training.Result:
    """Trains a job; `then` says how to resume if it is stopped."""
    job, what = plan.jobs[number - 1], f"job {number} of {len(plan.jobs)}"
    arguments = plan.arguments(job)
    with contextlib.ExitStack() as stack:
        if announce is not None:
            announce(f"{what}: {job}")
            phases = phases_of(plan.algorithm, job.configs[0])
            pretraining = sum(phase.num_steps or 0 for phase in phases)
            arguments["report"] = Progress(pretraining + arguments["num_steps"])
            stack.callback(arguments["report"].close)
        try:
            return training.train(
                **arguments,
                run_dir=run_dir,
                setting_dirs=setting_dirs,
                allow_config_change=True,  # of seed_batch: the sweep compares the rest
                stop=stop,
            )
        except Stopped as error:
            raise Stopped(f"{what} {str(error).partition('; ')[0]}; {then}") from None


def _with_rows(
    plan: Plan,
    runs: Mapping[str, Run | Path],
    records: Iterable[recorded.RecordedRun],
    path: Path | None,
) -> Sweep:
    """The sweep of all jobs' runs, in order."""
    settings = [(job.dataset, values) for job in plan.jobs for values in job.values]
    rows = [report.row_of(*own, record) for own, record in zip(settings, records, strict=True)]
    next_seed = plan.options["seed"] + plan.options["num_seeds"]
    return Sweep(Runs(runs, plan.algorithm, plan.networks), rows, next_seed, path)


def _named(data: Source | Sequence[Source] | Mapping[str, Source]) -> dict[str, Source]:
    """Datasets by name.

    Raises:
      InputError: if no dataset is given, or two have the same name.
    """
    if isinstance(data, Mapping):
        named = [(str(name), source) for name, source in data.items()]
    else:
        several = data if isinstance(data, list | tuple) else [data]
        named = [(x.spec.name if isinstance(x, Data) else str(x), x) for x in several]
    names = [name for name, _ in named]
    if not names:
        raise InputError("data holds no dataset; give at least one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"two datasets are named {twice[0]!r}; give each once, or a dictionary of other names"
        )
    return dict(named)
