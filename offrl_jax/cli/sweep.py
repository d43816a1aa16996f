"""Trains every setting of a grid, on one dataset or several, and reports the best.

  offrl sweep --grid.conservative_weight=1,5,10 --grid.actor_learning_rate=1e-4,3e-4
  offrl sweep --dataset=hopper.hdf5,walker2d.hdf5 --grid.num_critics=2,4,10
  offrl sweep --algorithm=iql --grid.expectile=0.7,0.8,0.9 --launcher=slurm

Settings that differ only in numbers train together in one program with all of their seeds,
distributed over all devices. Each dataset, each value of another setting (sizes such as 64x64,
switches, names) and each discount is a job of its own, and --runs_per_job splits jobs further. Jobs
run one after another, or with --launcher on the machines of a Ray or Slurm cluster.

Each setting has a run directory like that of offrl train, runs/NAME in the sweep's directory; the
table of all settings is in table.txt, table.json and table.png. The same command with the same
--sweep_dir resumes a sweep that was stopped or killed, and does not train finished settings again.
--algorithm=cql --help lists CQL's --grid.NAME and --config.NAME. Exit codes are those of
offrl train.
"""

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

import offrl_jax as orl
from offrl_jax.cli import run_flags
from offrl_jax.cli.algorithms import find_algorithm
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import DATASETS
from offrl_jax.cli.help import section
from offrl_jax.cli.signals import stopping
from offrl_jax.runs.outcomes import RunFailed

if TYPE_CHECKING:
    from offrl_jax.api.jobs import Plan

with section("data"):
    flags.DEFINE_list("dataset", ["pointmaze/umaze"], f"{DATASETS}; or several, a job each")
run_flags.define_run_flags()
with section("jobs"):
    flags.DEFINE_integer(
        "runs_per_job", None, "maximum number of runs (settings × num_seeds) in a job", 1
    )
    flags.DEFINE_integer("job", None, "train only the job of this number; no table is made", 1)
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


def main() -> None:
    clock = time.perf_counter()
    import jax

    from offrl_jax.api.sweep import finished, train_jobs
    from offrl_jax.reports.wording import plural
    from offrl_jax.runs.sweep_directory import SweepDirectory, check_sweep_dir

    sweep_dir = check_sweep_dir(FLAGS.sweep_dir or _default_sweep_dir())
    plan = _plan()
    if FLAGS.launcher != "none":
        jax.config.update("jax_platforms", "cpu")  # the jobs need the accelerators' memory
    orl.devices.use_cores(plan.num_together * FLAGS.num_seeds)
    if FLAGS.job is not None and FLAGS.job > len(plan.jobs):
        raise orl.InputError(f"job={FLAGS.job} but the sweep has {plural(len(plan.jobs), 'job')}")
    settings = plan.settings
    print(plan, flush=True)
    announce = functools.partial(print, flush=True)
    if FLAGS.launcher != "none":
        _launch(plan, sweep_dir)
    elif FLAGS.job is not None:
        directory = SweepDirectory(sweep_dir, settings, shared=True)
        with contextlib.closing(directory), stopping() as stop:
            train_jobs(plan, [FLAGS.job], directory, announce, stop)
        print(f"job {FLAGS.job} is done; when all are, the command without --job makes the table")
        return
    with contextlib.closing(SweepDirectory(sweep_dir, settings)) as directory:
        with stopping() as stop:
            train_jobs(plan, range(1, len(plan.jobs) + 1), directory, announce, stop)
        found = finished(plan, directory)
    print(f"\n{found}\n\nwall time {time.perf_counter() - clock:.3g} s")
    print(f"sweep directory: {sweep_dir}")
    failed = [row.run.name for row in found.rows if row.ending == "failed"]
    if failed and (len(failed) == len(found.rows) or FLAGS.fail_on_divergence):
        raise RunFailed(f"{len(failed)} of {len(found.rows)} runs failed, {failed[0]} the first")


def _plan() -> "Plan":
    """What the flags ask for.

    Raises:
      InputError: if flags contradict one another, or the grid cannot be used.
    """
    from offrl_jax.api.jobs import Plan
    from offrl_jax.cli.config_flags import config_overrides, grid_values

    if FLAGS.job is not None and FLAGS.launcher != "none":
        raise orl.InputError(
            f"both job={FLAGS.job} and launcher={FLAGS.launcher} are given; a launcher runs all "
            "jobs that are not done, so leave one out"
        )
    if not FLAGS.dataset or len(set(FLAGS.dataset)) < len(FLAGS.dataset):
        raise orl.InputError(
            f"dataset={','.join(FLAGS.dataset)} names no dataset or repeats one; name each once"
        )
    algorithm = find_algorithm(FLAGS.algorithm)
    return Plan(
        algorithm,
        FLAGS.dataset,
        run_flags.load,
        grid=grid_values(algorithm.Config),
        config=config_overrides(algorithm.Config),
        preset=FLAGS.preset,
        recipe=FLAGS.recipe,
        best_fraction=FLAGS.best_fraction,
        runs_per_job=FLAGS.runs_per_job,
        command=sys.argv,
        **run_flags.given_presets(),
        **run_flags.passed_on(),
    )


def _launch(plan: "Plan", sweep_dir: Path) -> None:
    """Trains the jobs that are not done as separate tasks, and waits for them.

    Raises:
      RunFailed: if some failed.
    """
    from offrl_jax.api.sweep import is_done
    from offrl_jax.cli import launchers
    from offrl_jax.runs.sweep_directory import SweepDirectory

    with contextlib.closing(SweepDirectory(sweep_dir, plan.settings, shared=True)) as directory:
        numbers = [n for n, job in enumerate(plan.jobs, 1) if not is_done(job, directory)]
        if not numbers:
            return
        if done := len(plan.jobs) - len(numbers):
            print(f"{done} of {len(plan.jobs)} jobs were done before", flush=True)
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


def _default_sweep_dir() -> Path:
    algorithm = FLAGS.algorithm.rpartition(":")[2]
    return Path("runs") / f"sweep-{algorithm}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    launch(main)
