"""Trains an offline-RL algorithm on a dataset, evaluates it and reports.

  python -m experiments.train
  python -m experiments.train --algorithm=bc --dataset=pointmaze/medium --num_seeds=5
  python -m experiments.train --algorithm=sac --dataset=hopper.hdf5 --config.num_critics=10

A flag that is not given takes the value of the preset for the algorithm and the dataset's domain
(experiments/configs/), or else its default. --help lists the settings of the --algorithm beside it.

A --run_dir that holds a run already goes on with it from its newest whole checkpoint. SIGTERM and
Ctrl-C save and stop; once more leaves at once. Exit codes: 0 done, 2 bad input, 3 failed, as
FAILED.json in the run directory says, 75 stopped and saved, 1 a fault of the program.
"""

import contextlib
import dataclasses
import itertools
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments.command_line import FLAGS, config_overrides, launch
from experiments.loggers import LOGGERS, Loggers
from experiments.presets import DOMAINS, Preset, find_preset, prepared
from experiments.progress import Progress, speed
from experiments.signals import stopping
from offrl_jax import backends, data, divergence, runs
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.data import Dataset, scores
from offrl_jax.data.summary import summary
from offrl_jax.outcomes import RunFailed
from offrl_jax.reports.table import diagnostics_table, final_table

flags.DEFINE_string("algorithm", "cql", f"one of {', '.join(ALGORITHMS)}")
flags.DEFINE_string(
    "dataset",
    "pointmaze/umaze",
    "pointmaze/{umaze,medium,large}[-N], {cartpole,lunarlander,acrobot}/{random,medium,expert,"
    "mixed,narrow}[-N], a Minari id, or the path of a D4RL-layout HDF5 or an npz",
)
flags.DEFINE_string(
    "run_dir",
    None,
    "directory of the run; one that exists goes on (default: a new one under runs/)",
)
flags.DEFINE_integer("num_steps", None, "updates a seed (default: the preset's)", 1)
flags.DEFINE_integer("num_seeds", 3, "seeds trained at once", 1)
flags.DEFINE_integer("seed", 0, "the first seed; the others follow on", 0)
flags.DEFINE_integer("num_evaluations", 5, "equally spaced evaluations, the last at the end", 1)
flags.DEFINE_integer("num_evaluation_episodes", 10, "episodes a seed; 0: no environment", 0)
flags.DEFINE_float(
    "evaluation_timeout", 300.0, "seconds that a step of an environment may take", 0.0
)
flags.DEFINE_integer("seed_batch", None, "seeds in memory at once, a divisor of num_seeds", 1)
flags.DEFINE_float(
    "checkpoint_seconds", 60.0, "save after a chunk if the last time is so long ago", 0.0
)
flags.DEFINE_integer("keep_last", 2, "how many of the newest checkpoints to keep", 1)
flags.DEFINE_integer("keep_every", None, "keep those saved at multiples of this step as well", 1)
flags.DEFINE_bool("allow_config_change", False, "go on in run_dir with other settings or data")
flags.DEFINE_float(
    "divergence_limit", divergence.LIMIT, "a seed with a metric beyond this is frozen for good", 0.0
)
flags.DEFINE_bool(
    "fail_on_divergence", False, "exit with 3 if any seed diverges, not only if all do"
)
flags.DEFINE_list("loggers", [], f"beside the run's files: {', '.join(LOGGERS)}")
flags.DEFINE_enum(
    "preset", "auto", ("auto", "none", *DOMAINS), "auto: by the dataset's environment"
)
flags.DEFINE_list(
    "recipe", [], "named settings on top of the preset, such as quick, or brac's kl_control"
)
flags.DEFINE_string("env_id", None, "evaluation environment, where the data names none or another")
flags.DEFINE_list(
    "observation_keys", [], "entries of a Dict observation that make up the data's, in order"
)
flags.DEFINE_bool("clip_actions", False, "clip actions outside their bounds, counted in a warning")
flags.DEFINE_bool(
    "trust_dataset_env", False, "run the code that the data name for an unregistered environment"
)
flags.DEFINE_bool("normalize_observations", None, "standardise observations")
flags.DEFINE_float("reward_scale", None, "r becomes reward_scale · r + reward_bias")
flags.DEFINE_float("reward_bias", None, "see reward_scale; AntMaze recipes use 1 and −1")
flags.DEFINE_bool(
    "scale_rewards_by_return_range", None, "r becomes 1000 r / (highest − lowest return)"
)
flags.DEFINE_float("best_fraction", 1.0, "keep this share of the episodes, by return", 0.0, 1.0)

PASSED_ON = (  # flags that are arguments of runs.train
    *("num_seeds", "seed", "seed_batch", "num_evaluations", "num_evaluation_episodes"),
    *("evaluation_timeout", "checkpoint_seconds", "keep_last", "keep_every"),
    *("allow_config_change", "divergence_limit", "fail_on_divergence"),
)


def main() -> None:
    clock = time.perf_counter()
    backends.use_cores(FLAGS.num_seeds)
    algorithm = ALGORITHMS[FLAGS.algorithm]
    run_dir = runs.check_run_dir(FLAGS.run_dir or _default_run_dir())
    dataset = data.load(
        FLAGS.dataset,
        env_id=FLAGS.env_id,
        observation_keys=tuple(FLAGS.observation_keys),
        clip_actions=FLAGS.clip_actions,
        trust_dataset_env=FLAGS.trust_dataset_env,
    )
    card = summary(dataset)
    print(_headline(dataset, card))
    preset = _preset(dataset)
    config = algorithm.Config(**preset.config | config_overrides(algorithm.Config))
    if FLAGS.best_fraction != 1:
        dataset = data.keep_best_episodes(dataset, FLAGS.best_fraction)
    dataset = prepared(dataset, preset)

    pretraining = sum(phase.num_steps or 0 for phase in phases_of(algorithm, config))
    total_steps = pretraining + preset.num_steps
    progress = Progress(total_steps)
    loggers = Loggers(FLAGS.loggers, run_dir)
    with contextlib.closing(progress), contextlib.closing(loggers), stopping() as stop:
        result = runs.train(
            algorithm,
            config,
            dataset,
            run_dir=run_dir,
            num_steps=preset.num_steps,
            **{name: FLAGS[name].value for name in PASSED_ON},
            record={"preset": dataclasses.asdict(preset), "best_fraction": FLAGS.best_fraction},
            command=sys.argv,
            report=progress,
            log=loggers,
            stop=stop,
        )
    after = f" after {pretraining:,} of pretraining" if pretraining else ""
    print(f"\n{algorithm.name} on {dataset.spec.name}, {preset.num_steps:,} steps a seed{after}\n")
    if result.rollouts is not None:
        print(final_table(result.rollouts, dataset.spec, card["mean_return"], FLAGS.seed))
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


def _preset(dataset: Dataset) -> Preset:
    """The chosen preset with the given flags on top."""
    domain = scores.domain(dataset.spec) if FLAGS.preset == "auto" else FLAGS.preset
    preset = find_preset(FLAGS.algorithm, domain, FLAGS.recipe)
    fields = [f.name for f in dataclasses.fields(Preset) if f.name != "config"]
    given = {name: FLAGS[name].value for name in fields if FLAGS[name].value is not None}
    return dataclasses.replace(preset, **given)


def _default_run_dir() -> Path:
    """A new one, whatever the clock says."""
    dataset = Path(FLAGS.dataset).stem if Path(FLAGS.dataset).suffix else FLAGS.dataset
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{FLAGS.algorithm}-{dataset.replace('/', '-')}-{stamp}"
    others = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not p.exists())


def _times(result: runs.Result, total: float) -> str:
    """Seconds and shares of the command's parts; what came before the run counts as its start."""
    before = total - sum(result.seconds.values())
    seconds = result.seconds | {"start": result.seconds["start"] + before}
    texts = {p: f"{p} {spent:.3g} s ({spent / total:.0%})" for p, spent in seconds.items()}
    beside = result.evaluation_seconds - seconds["evaluation"]
    texts["evaluation"] += f" and {max(beside, 0.0):.3g} s beside training"
    return f"{total:.3g} s: {', '.join(texts.values())}"


def _headline(dataset: Dataset, card: dict[str, Any]) -> str:
    score = card["mean_score"]
    return (
        f"{dataset.spec.name}: {card['transitions']:,} transitions in "
        f"{card['episodes']:,} episodes, mean return {card['mean_return']:.1f}"
        + (f" (score {score:.1f})" if score is not None else "")
        + f", environment {dataset.spec.env_id}, fingerprint {dataset.spec.fingerprint[:12]}"
    )


if __name__ == "__main__":
    launch(main)
