"""Trains an offline-RL algorithm on a dataset, evaluates it and reports.

  offrl train
  offrl train --algorithm=bc --dataset=pointmaze/medium --num_seeds=5
  offrl train --algorithm=sac --dataset=hopper.hdf5 --config.num_critics=10

Settings that are not given come from the preset for the algorithm and the dataset's domain, or else
from the defaults. --algorithm=cql --help lists the settings of CQL as well. --algorithm=mine:mine
is the Algorithm mine of your module mine; offrl new-algorithm writes one. A NETWORK is hidden sizes
such as 256x256, a module with fields such as MLP(hidden_sizes=64x64,layer_norm=true), or your own
such as my_module:Mine(width=64).

The same --run_dir resumes a run from its newest whole checkpoint. SIGTERM and Ctrl-C save and stop;
a second one exits at once. Exit codes: 0 done, 2 bad input, 3 failed (FAILED.json in the run
directory says why), 75 stopped and saved, 1 internal error.
"""

import contextlib
import itertools
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
from offrl_jax.runs.outcomes import AlreadyFinished, RunFailed

if TYPE_CHECKING:
    from offrl_jax.runs.train import Result

with section("data"):
    flags.DEFINE_string("dataset", "pointmaze/umaze", DATASETS)
run_flags.define_run_flags()
with section("output"):
    flags.DEFINE_string(
        "run_dir",
        None,
        "directory of the run; one that exists resumes (default: a new one under runs/)",
    )
    flags.DEFINE_bool("allow_config_change", False, "resume run_dir with other settings or data")
    flags.DEFINE_integer("keep_last", 2, "how many of the newest checkpoints to keep", 1)
    flags.DEFINE_integer(
        "keep_every", None, "also keep the checkpoints at multiples of this step", 1
    )
    flags.DEFINE_list("loggers", [], "log to tensorboard, wandb as well as to files")


def main() -> None:
    clock = time.perf_counter()
    from offrl_jax.algorithms.base import phases_of
    from offrl_jax.cli.config_flags import config_overrides
    from offrl_jax.reports.table import diagnostics_table, final_table
    from offrl_jax.runs.directory import check_run_dir
    from offrl_jax.runs.loggers import Loggers
    from offrl_jax.runs.progress import speed

    orl.devices.use_cores(FLAGS.num_seeds)
    algorithm = find_algorithm(FLAGS.algorithm)
    run_dir = check_run_dir(FLAGS.run_dir or _default_run_dir(algorithm.name))
    dataset = run_flags.load(FLAGS.dataset)
    print(dataset)
    loggers = Loggers(FLAGS.loggers, run_dir)
    with contextlib.closing(loggers), stopping() as stop:
        run = orl.train(
            algorithm,
            dataset,
            config=config_overrides(algorithm.Config),
            preset=FLAGS.preset,
            recipe=FLAGS.recipe,
            run_dir=run_dir,
            best_fraction=FLAGS.best_fraction,
            **run_flags.given_presets(),
            **run_flags.passed_on(),
            keep_last=FLAGS.keep_last,
            keep_every=FLAGS.keep_every,
            allow_config_change=FLAGS.allow_config_change,
            command=sys.argv,
            log=loggers,
            stop=stop,
        )
    result, num_steps = run.session, run.settings["num_steps"]
    if result is None:
        raise AlreadyFinished(f"the run in {run.path} is finished; nothing is left to do")
    earlier = sum(phase.num_steps or 0 for phase in phases_of(run.algorithm, run.config))
    after = f" after {earlier:,} of pretraining" if earlier else ""
    print(f"\n{run.algorithm.name} on {dataset.spec.name}, {num_steps:,} steps a seed{after}\n")
    if result.rollouts is not None:
        mean_return = float(orl.data.episode_returns(dataset).mean())
        print(final_table(result.rollouts, dataset.spec, mean_return, FLAGS.seed))
    elif FLAGS.num_evaluation_episodes == 0:
        print("not evaluated, as num_evaluation_episodes=0 asks")
    elif None not in result.diverged:
        print("not evaluated, as all seeds diverged")
    else:
        print(f"not evaluated at the end; {run_dir}/evaluations.jsonl says why")
    print(f"\nat states of the data\n\n{diagnostics_table(result.metrics, FLAGS.seed)}")
    for i, what in enumerate(result.diverged):
        if what is not None:
            print(f"warning: seed {FLAGS.seed + i} diverged and was frozen: its {what}")
    rate = ""
    if result.num_steps:
        rate = speed(result.num_steps / result.seconds["training"])
        rate = f"; {rate} of {FLAGS.num_seeds} seeds at once"
    times = _times(result, time.perf_counter() - clock)
    print(f"\nwall time {times}{rate}\nrun directory: {run_dir}")
    if result.failed is not None:
        raise RunFailed(result.failed)


def _default_run_dir(algorithm: str) -> Path:
    """A new directory, even if the time stamp is taken."""
    dataset = Path(FLAGS.dataset).stem if Path(FLAGS.dataset).suffix else FLAGS.dataset
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{algorithm}-{dataset.replace('/', '-')}-{stamp}"
    others = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not p.exists())


def _times(result: "Result", total: float) -> str:
    """Seconds and percentages by part; time before the run counts as its start."""
    before = total - sum(result.seconds.values())
    seconds = result.seconds | {"start": result.seconds["start"] + before}
    texts = {p: f"{p} {spent:.3g} s ({spent / total:.0%})" for p, spent in seconds.items()}
    beside = result.evaluation_seconds - seconds["evaluation"]
    texts["evaluation"] += f" and {max(beside, 0.0):.3g} s beside training"
    return f"{total:.3g} s: {', '.join(texts.values())}"


if __name__ == "__main__":
    launch(main)
