"""Trains every setting of a grid, on one dataset or several, and says which scored best.

  offrl sweep --grid.conservative_weight=1,5,10 --grid.actor_learning_rate=1e-4,3e-4
  offrl sweep --dataset=hopper.hdf5,walker2d.hdf5 --grid.num_critics=2,4,10
  offrl sweep --algorithm=iql --grid.expectile=0.7,0.8,0.9 --launcher=slurm

Settings that differ in numbers alone train in one program, with all of their seeds, shared
among all devices. Each dataset, each value of another setting (sizes such as 64x64, switches,
names) and each discount is a job of its own, and --runs_per_job splits jobs further. Jobs run one
after another, or by --launcher on the machines of a Ray or Slurm cluster.

Each setting leaves a run directory, runs/NAME in the sweep's, as offrl train does; the table of all
goes to table.txt, table.json and table.png. The same command with the same --sweep_dir
resumes where it was stopped or killed. --algorithm=cql --help lists CQL's --grid.NAME and
--config.NAME. Exit codes are those of offrl train.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags

from offrl_jax import devices, environments, learner
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.cli import launchers, run_flags
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import DATASETS
from offrl_jax.cli.config_flags import config_overrides, grid_values
from offrl_jax.cli.help import section
from offrl_jax.cli.signals import stopping
from offrl_jax.config import grid
from offrl_jax.data import Data
from offrl_jax.presets.preset import Preset
from offrl_jax.reports import sweep as report
from offrl_jax.reports.study import short_name
from offrl_jax.reports.wording import plural
from offrl_jax.runs.outcomes import RunFailed, Stopped
from offrl_jax.runs.progress import Progress
from offrl_jax.runs.schedule import check
from offrl_jax.runs.sweep_directory import SweepDirectory, check_sweep_dir
from offrl_jax.runs.train import train
from offrl_jax.types import InputError

with section("data"):
    flags.DEFINE_list("dataset", ["pointmaze/umaze"], f"{DATASETS}; several are several jobs")
run_flags.define_run_flags()
with section("training"):
    flags.DEFINE_integer(
        "seed_batch", None, "runs in memory at once, a divisor of a job's settings × num_seeds", 1
    )
with section("jobs"):
    flags.DEFINE_integer(
        "runs_per_job", None, "split jobs into ones of at most this many settings × num_seeds", 1
    )
    flags.DEFINE_integer("job", None, "train only the job of this number, and make no table", 1)
    flags.DEFINE_enum(
        "launcher", "none", ("none", "local", "slurm", "ray"), "what runs the jobs, all at once"
    )
    flags.DEFINE_list(
        "launcher_options",
        [],
        "of each job: timeout_min=600,slurm_partition=gpu, or with ray num_gpus=0.5,num_cpus=2",
    )
with section("output"):
    flags.DEFINE_string(
        "sweep_dir",
        None,
        "directory of the sweep; one that exists resumes (default: a new one under runs/)",
    )

ONE_AFTER_ANOTHER = ("discount",)  # floats that the data are prepared with
LONG = 120  # characters of a run's name


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings that train together.

    Attributes:
      dataset: Its name.
      configs: Which differ in floats alone.
      values: By config what the grid says of it.
      names: By config its run's.
    """

    dataset: str
    configs: list[Any]
    values: list[dict[str, Any]]
    names: list[str]


def main() -> None:
    clock = time.perf_counter()
    algorithm = ALGORITHMS[FLAGS.algorithm]
    sweep_dir = check_sweep_dir(FLAGS.sweep_dir or _default_sweep_dir())
    axes = _axes(algorithm.Config)
    floats = [name for name in axes if _is_float(algorithm.Config, name)]
    num_together = _num_together(math.prod(len(axes[name]) for name in floats))
    if FLAGS.launcher != "none":
        jax.config.update("jax_platforms", "cpu")  # the jobs need the accelerators' memory
    devices.use_cores(num_together * FLAGS.num_seeds)
    jobs = list(_jobs(axes, floats, num_together))
    if FLAGS.job is not None and FLAGS.job > len(jobs):
        raise InputError(f"job={FLAGS.job} but the sweep has {plural(len(jobs), 'job')}")
    settings = _checked(jobs, axes)
    at_most = "at most " if len(jobs[-1].configs) < num_together else ""
    print(
        f"{algorithm.name}: {plural(len(jobs), 'job')} of {at_most}"
        f"{plural(num_together, 'setting')} × {plural(FLAGS.num_seeds, 'seed')}",
        flush=True,
    )
    if FLAGS.launcher != "none":
        _launch(jobs, sweep_dir, settings)
    elif FLAGS.job is not None:
        with contextlib.closing(SweepDirectory(sweep_dir, settings, shared=True)) as directory:
            _train([FLAGS.job], jobs, directory)
        print(f"job {FLAGS.job} is done; without --job the command makes the table when all are")
        return
    with contextlib.closing(SweepDirectory(sweep_dir, settings)) as directory:
        _train(range(1, len(jobs) + 1), jobs, directory)
        rows = _table(jobs, directory, floats)
    print(f"\nwall time {time.perf_counter() - clock:.3g} s\nsweep directory: {sweep_dir}")
    failed = [row.run.name for row in rows if row.ending == "failed"]
    if failed and (len(failed) == len(rows) or FLAGS.fail_on_divergence):
        raise RunFailed(f"{len(failed)} of {len(rows)} runs failed, {failed[0]} the first")


def _axes(config_type: type) -> dict[str, tuple]:
    """The grid: values by field.

    Raises:
      InputError: if there is nothing to sweep, or a field is given twice.
    """
    axes = grid_values(config_type)
    if twice := axes.keys() & config_overrides(config_type).keys():
        name = min(twice)
        raise InputError(f"both --grid.{name} and --config.{name} are given; leave one out")
    if not FLAGS.dataset or len(set(FLAGS.dataset)) < len(FLAGS.dataset):
        raise InputError(
            f"dataset={','.join(FLAGS.dataset)} names none or repeats one; name each once"
        )
    if not axes and len(FLAGS.dataset) == 1:
        raise InputError(
            "there is nothing to sweep: give values of some setting, such as "
            f"--grid.{dataclasses.fields(config_type)[0].name}=…, or several names to --dataset"
        )
    return axes


def _num_together(num_settings: int) -> int:
    """How many of the settings that differ in floats alone train in one job.

    Raises:
      InputError: if a job cannot hold a setting with all of its seeds.
    """
    if FLAGS.runs_per_job is None:
        return num_settings
    if FLAGS.runs_per_job < FLAGS.num_seeds:
        raise InputError(
            f"runs_per_job={FLAGS.runs_per_job} is less than num_seeds={FLAGS.num_seeds}, but the "
            f"seeds of a setting train in one job; give --runs_per_job={FLAGS.num_seeds} or more, "
            "or fewer seeds"
        )
    return min(num_settings, FLAGS.runs_per_job // FLAGS.num_seeds)


def _is_float(config_type: type, name: str) -> bool:
    """Whether settings that differ in this field train together."""
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    return fields[name].type is float and name not in ONE_AFTER_ANOTHER


def _jobs(axes: dict[str, tuple], floats: list[str], num_together: int) -> Iterator[Job]:
    static = [name for name in axes if name not in floats]
    config_type = ALGORITHMS[FLAGS.algorithm].Config
    labels = _labels()
    for dataset in FLAGS.dataset:
        _, preset = _prepared(dataset)
        base = preset.config | config_overrides(config_type)
        for chosen in itertools.product(*(axes[name] for name in static)):
            fixed = dict(zip(static, chosen, strict=True))
            configs = grid(config_type(**base | fixed), **{name: axes[name] for name in floats})
            for start in range(0, len(configs), num_together):
                own = configs[start : start + num_together]
                values = [{name: getattr(config, name) for name in axes} for config in own]
                yield Job(dataset, own, values, [_name(labels[dataset], v) for v in values])


def _labels() -> dict[str, str]:
    """By dataset what stands for it in names of runs."""
    found: dict[str, str] = {}
    for dataset in FLAGS.dataset:
        label = short_name(dataset).replace("/", "-")
        others = (f"{label}-{i}" for i in itertools.count(2))
        found[dataset] = next(
            x for x in itertools.chain([label], others) if x not in found.values()
        )
    return found


def _name(dataset: str, values: dict[str, Any]) -> str:
    name = ",".join([dataset, *(f"{name}={report.shown_value(v)}" for name, v in values.items())])
    if len(name.encode()) <= LONG:
        return name
    return f"{name[: LONG // 2]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@functools.lru_cache(maxsize=1)  # jobs on one dataset follow one another
def _prepared(name: str) -> tuple[Data, Preset]:
    """The dataset as its jobs learn from it, and the preset that says how."""
    dataset = run_flags.load(name)
    preset = run_flags.preset_for(dataset)
    return run_flags.to_learn_from(dataset, preset), preset


def _checked(jobs: list[Job], axes: dict[str, tuple]) -> dict[str, Any]:
    """What the sweep is, for `sweep.json`.

    Raises:
      InputError: if some job cannot be run.
    """
    algorithm, precision = ALGORITHMS[FLAGS.algorithm], FLAGS.matmul_precision
    settings = {
        "algorithm": algorithm.name,
        "grid": axes,
        **{name: FLAGS[name].value for name in ("num_seeds", "seed", "num_evaluations")},
        "num_evaluation_episodes": FLAGS.num_evaluation_episodes,
        "divergence_limit": FLAGS.divergence_limit,
        "fail_on_divergence": FLAGS.fail_on_divergence,
        **({"runs_per_job": FLAGS.runs_per_job} if FLAGS.runs_per_job is not None else {}),
        **({"matmul_precision": precision} if precision != "default" else {}),
        "datasets": {},
    }
    for job in jobs:
        dataset, preset = _prepared(job.dataset)
        check(
            *(algorithm, job.configs, dataset),
            num_steps=preset.num_steps,
            **{
                name: FLAGS[name].value
                for name in ("num_evaluations", "num_seeds", "seed", "seed_batch")
            },
        )
        init = functools.partial(learner.init, algorithm, job.configs[0], dataset.spec)
        jax.eval_shape(init, jax.random.key(0))
        if FLAGS.num_evaluation_episodes:
            environments.make_from_spec(dataset.spec).close()
        settings["datasets"][job.dataset] = {
            "dataset": dataset.spec.to_json(),
            "config": {
                name: value
                for name, value in dataclasses.asdict(job.configs[0]).items()
                if name not in axes
            },
            **run_flags.record(preset),
        }
    return settings


def _train(numbers: Iterable[int], jobs: list[Job], directory: SweepDirectory) -> None:
    """Trains the jobs of these numbers, counted from 1, that are not done."""
    algorithm = ALGORITHMS[FLAGS.algorithm]
    with stopping() as stop:
        for number in numbers:
            job, what = jobs[number - 1], f"job {number} of {len(jobs)}"
            if not _is_done(job, directory):
                dataset, preset = _prepared(job.dataset)
                print(f"{what}: {job.dataset}{_fixed(job)}", flush=True)
                phases = phases_of(algorithm, job.configs[0])
                pretraining = sum(phase.num_steps or 0 for phase in phases)
                try:
                    with contextlib.closing(Progress(pretraining + preset.num_steps)) as progress:
                        train(
                            algorithm,
                            job.configs,
                            dataset,
                            run_dir=directory.job_dir(number),
                            setting_dirs=[directory.run_dir(name) for name in job.names],
                            num_steps=preset.num_steps,
                            **run_flags.passed_on(),
                            allow_config_change=True,  # seed_batch: the sweep's are compared
                            record=run_flags.record(preset),
                            command=sys.argv,
                            report=progress,
                            stop=stop,
                        )
                except Stopped as error:
                    done = str(error).partition("; ")[0]
                    raise Stopped(
                        f"{what} {done}; the same command with --sweep_dir={directory.path} goes on"
                    ) from None
            directory.forget_job(number)


def _is_done(job: Job, directory: SweepDirectory) -> bool:
    return all(map(directory.is_done, job.names))


def _launch(jobs: list[Job], sweep_dir: Path, settings: dict[str, Any]) -> None:
    """Trains what is not done as tasks of their own, and waits for them.

    Raises:
      RunFailed: if some failed.
    """
    with contextlib.closing(SweepDirectory(sweep_dir, settings, shared=True)) as directory:
        numbers = [n for n, job in enumerate(jobs, 1) if not _is_done(job, directory)]
        if not numbers:
            return
        if len(numbers) < len(jobs):
            print(f"{len(jobs) - len(numbers)} of {len(jobs)} jobs were done before", flush=True)
        command = [sys.executable, "-m", "offrl_jax.cli.sweep", *sys.argv[1:]]
        command += [f"--sweep_dir={directory.path}", "--launcher=none"]
        tasks = {f"job {number}": [*command, f"--job={number}"] for number in numbers}
        failed = launchers.run(
            tasks, directory.path / "tasks", FLAGS.launcher, FLAGS.launcher_options
        )
    if failed:
        name, errors = next(iter(failed.items()))
        raise RunFailed(
            f"{len(failed)} of {len(tasks)} jobs failed; {errors} says why {name} did. Correct the "
            "cause and run the same command again"
        )


def _table(jobs: list[Job], directory: SweepDirectory, floats: list[str]) -> list[report.Row]:
    """The rows of every run, written down and printed.

    Raises:
      RunFailed: if they cannot be written.
    """
    rows = [
        report.read(job.dataset, values, directory.run_dir(name))
        for job in jobs
        for values, name in zip(job.values, job.names, strict=True)
    ]
    try:
        text = report.write(directory.path, rows, floats, FLAGS.seed + FLAGS.num_seeds)
    except OSError as error:
        raise RunFailed(
            f"the table cannot be written ({error}); mend that and run the same command again"
        ) from error
    print(f"\n{text}")
    return rows


def _fixed(job: Job) -> str:
    """What all of the job's settings have in common."""
    first, *others = job.values
    fixed = {k: v for k, v in first.items() if all(values[k] == v for values in others)}
    return "".join(f", {name}={report.shown_value(v)}" for name, v in fixed.items())


def _default_sweep_dir() -> Path:
    return Path("runs") / f"sweep-{FLAGS.algorithm}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    launch(main)
