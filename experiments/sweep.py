"""Trains every setting of a grid, on one dataset or several, and says which scored best.

  python -m experiments.sweep --grid.conservative_weight=1,5,10 --grid.actor_learning_rate=1e-4,3e-4
  python -m experiments.sweep --datasets=hopper.hdf5,walker2d.hdf5 --grid.num_critics=2,4,10
  python -m experiments.report runs/sweep/runs/*

Settings that differ in numbers alone train in one program, with all of their seeds, which are dealt
out to all devices. Each dataset, each value of another setting (sizes such as 64x64, switches,
names) and each discount is a job of its own; jobs run one after another. With --coordinator several
processes, on hosts that share --sweep_dir, train a part of each job's runs.

Each setting leaves a run directory, runs/NAME in the sweep's, as experiments.train does; the table
of all goes to table.txt, table.csv, table.json and table.png. The same command with the same
--sweep_dir goes on where it was stopped or killed, and trains nothing again that is done.
--algorithm=cql --help lists CQL's --grid.NAME and --config.NAME. Exit codes are those of
experiments.train.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import hosts, launchers, run_flags
from experiments.command_line import FLAGS, config_overrides, grid_values, launch
from experiments.presets import Preset
from experiments.progress import Progress
from experiments.signals import stopping
from offrl_jax import backends, cells, environments, learner, runs
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.config import grid
from offrl_jax.data import Data
from offrl_jax.outcomes import RunFailed, Stopped
from offrl_jax.reports import sweep as report
from offrl_jax.reports.study import short_name
from offrl_jax.reports.wording import plural
from offrl_jax.run_directory import DONE
from offrl_jax.sweep_directory import SweepDirectory, check_sweep_dir
from offrl_jax.types import InputError

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(hosts)
flags.DEFINE_list(
    "datasets", ["pointmaze/umaze"], "as --dataset of experiments.train; several are several jobs"
)
flags.DEFINE_string(
    "sweep_dir",
    None,
    "directory of the sweep; one that exists goes on (default: a new one under runs/)",
)
flags.DEFINE_integer(
    "seed_batch", None, "runs in memory at once, a divisor of a job's settings × num_seeds", 1
)
flags.DEFINE_integer(
    "job", None, "train only the one of this number, beside others that do so; no table", 1
)
flags.DEFINE_enum(
    "launcher", "none", ("none", "local", "slurm", "ray"), "what runs the jobs, all at once"
)
flags.DEFINE_list("launcher_options", [], "such as timeout_min=600,slurm_partition=gpu,mem_gb=32")

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
    if FLAGS.coordinator is not None and (FLAGS.sweep_dir is None or FLAGS.launcher != "none"):
        raise InputError(
            "--coordinator needs the --sweep_dir that all processes share, and goes without "
            "--launcher"
        )
    check_sweep_dir(FLAGS.sweep_dir or _default_sweep_dir())
    with hosts.joined() as place:
        failed = _sweep(place)
    if failed is not None:
        raise RunFailed(failed)


def _sweep(place: hosts.Place) -> str | None:
    """This process's part of it; why the sweep counts as failed, if it does."""
    clock = time.perf_counter()
    algorithm = ALGORITHMS[FLAGS.algorithm]
    sweep_dir = check_sweep_dir(FLAGS.sweep_dir or _default_sweep_dir())
    axes = _axes(algorithm.Config, place)
    floats = [name for name in axes if _is_float(algorithm.Config, name)]
    num_together = math.prod(len(axes[name]) for name in floats)
    own = cells.share(num_together * FLAGS.num_seeds, (place.process_id, place.num_processes))
    backends.use_cores(own.stop - own.start)
    jobs = list(_jobs(axes, floats))
    if FLAGS.job is not None and FLAGS.job > len(jobs):
        raise InputError(f"job={FLAGS.job} but the sweep has {plural(len(jobs), 'job')}")
    settings = _checked(jobs, axes, place)
    of_several = (
        f", runs {own.start + 1} to {own.stop} of each here" if place.num_processes > 1 else ""
    )
    print(
        f"{algorithm.name}: {plural(len(jobs), 'job')} of {plural(num_together, 'setting')} × "
        f"{plural(FLAGS.num_seeds, 'seed')}{of_several}",
        flush=True,
    )
    if FLAGS.launcher != "none":
        _launch(jobs, sweep_dir, settings)
    alone = FLAGS.job if FLAGS.launcher == "none" else None
    numbers = range(1, len(jobs) + 1) if alone is None else [alone]
    is_shared = alone is not None or place.num_processes > 1
    with contextlib.closing(SweepDirectory(sweep_dir, settings, shared=is_shared)) as directory:
        _train(numbers, jobs, directory, floats, place)
        if alone is not None:
            print(f"job {alone} is done; without --job the command makes the table when all are")
            return None
        if place.process_id > 0:
            print("done; process 0 makes the table")
            return None
        rows = _table(jobs, directory, floats)
    print(f"\nwall time {time.perf_counter() - clock:.3g} s\nsweep directory: {sweep_dir}")
    failed = [row.run.name for row in rows if row.ending == "failed"]
    if failed and (len(failed) == len(rows) or FLAGS.fail_on_divergence):
        return f"{len(failed)} of {len(rows)} runs failed, {failed[0]} the first"
    return None


def _axes(config_type: type, place: hosts.Place) -> dict[str, tuple]:
    """The grid: values by field.

    Raises:
      InputError: if there is nothing to sweep, or a field is given twice.
    """
    axes = grid_values(config_type)
    if twice := axes.keys() & config_overrides(config_type).keys():
        name = min(twice)
        raise InputError(f"both --grid.{name} and --config.{name} are given; leave one out")
    if not FLAGS.datasets or len(set(FLAGS.datasets)) < len(FLAGS.datasets):
        raise InputError(
            f"datasets={','.join(FLAGS.datasets)} are none or repeat one; name each once"
        )
    if not axes and len(FLAGS.datasets) == 1 and place.num_processes == 1:
        raise InputError(
            "there is nothing to sweep: give values of some setting, such as "
            f"--grid.{dataclasses.fields(config_type)[0].name}=…, or several --datasets"
        )
    return axes


def _is_float(config_type: type, name: str) -> bool:
    """Whether settings that differ in this field train together."""
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    return fields[name].type is float and name not in ONE_AFTER_ANOTHER


def _jobs(axes: dict[str, tuple], floats: list[str]) -> Iterator[Job]:
    static = [name for name in axes if name not in floats]
    config_type = ALGORITHMS[FLAGS.algorithm].Config
    labels = _labels()
    for dataset in FLAGS.datasets:
        _, preset = _prepared(dataset)
        base = preset.config | config_overrides(config_type)
        for chosen in itertools.product(*(axes[name] for name in static)):
            fixed = dict(zip(static, chosen, strict=True))
            configs = grid(config_type(**base | fixed), **{name: axes[name] for name in floats})
            values = [{name: getattr(config, name) for name in axes} for config in configs]
            names = [_name(labels[dataset], v) for v in values]
            yield Job(dataset, configs, values, names)


def _labels() -> dict[str, str]:
    """By dataset what stands for it in names of runs."""
    found: dict[str, str] = {}
    for dataset in FLAGS.datasets:
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


def _checked(jobs: list[Job], axes: dict[str, tuple], place: hosts.Place) -> dict[str, Any]:
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
        **({"num_processes": place.num_processes} if place.num_processes > 1 else {}),
        **({"matmul_precision": precision} if precision != "default" else {}),
        "datasets": {},
    }
    for job in jobs:
        dataset, preset = _prepared(job.dataset)
        runs.check(
            *(algorithm, job.configs, dataset),
            num_steps=preset.num_steps,
            num_parts=place.num_processes,
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


def _train(
    numbers: Iterable[int],
    jobs: list[Job],
    directory: SweepDirectory,
    floats: list[str],
    place: hosts.Place,
) -> None:
    """The jobs of these numbers, counted from 1, as far as they are not done; with several
    processes this one's part of them, of which the first makes runs when all are done."""
    place.begin()
    with stopping() as asked:

        def stop() -> bool:
            return asked() or place.is_alone()

        for number in numbers:
            job, what = jobs[number - 1], f"job {number} of {len(jobs)}"
            part_dir = directory.job_dir(number)
            if place.num_processes > 1:
                part_dir = directory.part_dirs(number, place.num_processes)[place.process_id]
            # In this order, since process 0 removes parts when runs are there.
            if not (part_dir / DONE).exists() and not _is_done(job, directory):
                print(f"{what}: {job.dataset}{_fixed(job, floats)}", flush=True)
                try:
                    _train_part(job, part_dir, directory, place, stop)
                except Stopped as error:
                    done = str(error).partition("; ")[0]
                    raise Stopped(
                        f"{what} {done}; the same command with --sweep_dir={directory.path} goes on"
                    ) from None
            if place.num_processes == 1:
                directory.forget_job(number)
        if place.num_processes > 1:
            for number in numbers:
                _put_together(number, jobs[number - 1], directory, place, stop)


def _train_part(
    job: Job, part_dir: Path, directory: SweepDirectory, place: hosts.Place, stop: Callable
) -> None:
    """The runs of a job that are this process's."""
    algorithm = ALGORITHMS[FLAGS.algorithm]
    dataset, preset = _prepared(job.dataset)
    pretraining = sum(phase.num_steps or 0 for phase in phases_of(algorithm, job.configs[0]))
    with contextlib.closing(Progress(pretraining + preset.num_steps)) as progress:
        runs.train(
            algorithm,
            job.configs,
            dataset,
            run_dir=part_dir,
            setting_dirs=[directory.run_dir(name) for name in job.names],
            part=(place.process_id, place.num_processes),
            num_steps=preset.num_steps,
            **run_flags.passed_on(),
            allow_config_change=True,  # seed_batch: the sweep's are compared
            record=run_flags.record(preset),
            command=sys.argv,
            report=progress,
            stop=stop,
        )


def _put_together(
    number: int, job: Job, directory: SweepDirectory, place: hosts.Place, stop: Callable
) -> None:
    """Waits for a job's runs, which process 0 makes of the parts of all."""
    if place.process_id == 0 and not _is_done(job, directory):
        part_dirs = directory.part_dirs(number, place.num_processes)
        place.wait(lambda: all((path / DONE).exists() for path in part_dirs), stop)
        runs.leave_parts(
            *(ALGORITHMS[FLAGS.algorithm], job.configs, _prepared(job.dataset)[0]),
            part_dirs=part_dirs,
            setting_dirs=[directory.run_dir(name) for name in job.names],
            num_seeds=FLAGS.num_seeds,
            seed=FLAGS.seed,
            fail_on_divergence=FLAGS.fail_on_divergence,
        )
    place.wait(lambda: _is_done(job, directory), stop)
    if place.process_id == 0:
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
        command = [sys.executable, "-m", "experiments.sweep", *sys.argv[1:]]
        command += [f"--sweep_dir={directory.path}", "--launcher=none"]
        tasks = {f"job {number}": [*command, f"--job={number}"] for number in numbers}
        failed = launchers.run(
            tasks, directory.path / "tasks", FLAGS.launcher, FLAGS.launcher_options
        )
    if failed:
        name, errors = next(iter(failed.items()))
        raise RunFailed(
            f"{len(failed)} of {len(tasks)} jobs failed, {name} as {errors} says; mend that and "
            "run the same command again"
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


def _fixed(job: Job, floats: list[str]) -> str:
    """What is the same for all of the job's settings and no other's."""
    fixed = {name: v for name, v in job.values[0].items() if name not in floats}
    return "".join(f", {name}={report.shown_value(v)}" for name, v in fixed.items())


def _default_sweep_dir() -> Path:
    return Path("runs") / f"sweep-{FLAGS.algorithm}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    launch(main)
