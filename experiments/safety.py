"""Learns among traps, with and without a constraint on accidents, and counts them.

  python -m experiments.safety
  python -m experiments.safety --task=car --output=runs/car
  python -m experiments.safety --methods=csc,unconstrained --config.accident_limit=0.3

Conservative safety critics keep the chance of an accident low while they learn: a critic of
accidents that errs on the safe side refuses dangerous actions (the shield) and holds back the
policy (a multiplier). The methods are choices of one config, which --config does not change in the
methods that make them; all of a method's seeds train in one program. Prints accidents in training
and the last policies' return with 95% intervals over seeds; the table goes to safety.json in
the output folder, accidents.png and value_and_safety.png are the lecture's two figures,
curves.jsonl has every iteration. A stopped run resumes with the methods
that it had not finished, given the same command and --output.
"""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import resumable
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.config_flags import config_overrides
from offrl_jax.config import validate
from offrl_jax.files import write_json
from offrl_jax.reports import safe_exploration
from offrl_jax.runs.progress import Progress
from offrl_jax.runs.schedule import seed_keys
from offrl_jax.safety import training, worlds
from offrl_jax.safety.settings import METHODS, SafetyConfig
from offrl_jax.types import InputError, Key

DEFAULT = [
    "csc",
    "unconstrained",
    "lagrangian",
    "no_shield",
    "ordinary_sign",
    "csc_pointwise",
    "reinforce",
]
flags.DEFINE_enum("task", "point", tuple(worlds.TASKS), "what moves among the traps")
flags.DEFINE_string("output", None, "folder of the results (default: one under runs/)")
flags.DEFINE_list("methods", DEFAULT, f"of {', '.join(METHODS)}")
flags.DEFINE_integer("num_iterations", 100, "of collection and update", 1)
flags.DEFINE_integer("num_seeds", 5, "seeds of every method", 1)
flags.DEFINE_integer("seed", 0, "the first seed; the others follow on", 0)
flags.DEFINE_integer("num_evaluation_episodes", 200, "episodes of every last policy", 1)

CONFIG = SafetyConfig  # its fields are flags
REFERENCE = "unconstrained"
ITERATIONS_AT_ONCE = 10


def main() -> None:
    keys = seed_keys(FLAGS.seed, FLAGS.num_seeds)
    configs = _configs()
    task = worlds.find_task(FLAGS.task)
    output = FLAGS.output or f"runs/safety-{FLAGS.task}-{time.strftime('%Y%m%d-%H%M%S')}"
    output = Path(os.path.expanduser(output))
    settings = {
        "task": dataclasses.asdict(task),
        **{name: FLAGS[name].value for name in ("num_iterations", "num_seeds", "seed")},
        "num_evaluation_episodes": FLAGS.num_evaluation_episodes,
        "methods": {name: dataclasses.asdict(config) for name, config in configs.items()},
    }
    done = resumable.finished(output, settings, {})
    for name, config in configs.items():
        if name in done:
            continue
        print(name, flush=True)
        done[name] = _trained(config, task, keys)
        resumable.save(output, done)
    curves = [_curve(name, done[name]) for name in configs]
    rows = safe_exploration.table(curves, METHODS[REFERENCE][0])
    write_json(output / "safety.json", [_plain(row) for row in rows])
    text = safe_exploration.markdown(rows, METHODS[REFERENCE][0])
    steps = FLAGS.num_iterations * next(iter(configs.values())).num_worlds
    steps *= next(iter(configs.values())).num_world_steps
    seeds = f"{FLAGS.num_seeds} seeds, seed {FLAGS.seed} on"
    seeds = seeds if FLAGS.num_seeds > 1 else f"seed {FLAGS.seed}"
    title = f"{FLAGS.task}: {steps:,} steps, {seeds}"
    safe_exploration.plot_accidents(output / "accidents.png", curves, title)
    safe_exploration.plot_value_and_safety(output / "value_and_safety.png", curves, title)
    print(f"\n{title}\n\n{text}\n\n{output}/safety.json, accidents.png, value_and_safety.png")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table in JSON's types."""
    return {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in row.items()}


def _configs() -> dict[str, SafetyConfig]:
    """By the methods' names in tables.

    Raises:
      InputError: if there is no such method, one comes twice, or a setting is out of its range or
        used by none of them.
    """
    if not FLAGS.methods:
        raise InputError("methods needs at least one entry")
    configs, given = {}, config_overrides(SafetyConfig)
    for flag in FLAGS.methods:
        if flag not in METHODS:
            raise InputError(f"there is no method {flag!r}; there are {', '.join(METHODS)}")
        name, own = METHODS[flag]
        if name in configs:
            raise InputError(f"{flag} is asked for twice in methods")
        configs[name] = SafetyConfig(**given | own)
        validate(configs[name])
    for name, value in given.items():
        if all(getattr(config, name) != value for config in configs.values()):
            raise InputError(
                f"config.{name}={value} is used by none of the chosen methods, which set it "
                "themselves; leave it out or take other methods"
            )
    return configs


def _trained(config: SafetyConfig, task: worlds.TrapTask, keys: Key) -> dict[str, Any]:
    """What every iteration measured, {name: (S, T)}, with what was before and after them."""
    session, first = training.start(config, task, keys)
    progress, found = Progress(FLAGS.num_iterations), []
    for step in range(0, FLAGS.num_iterations, ITERATIONS_AT_ONCE):
        num = min(ITERATIONS_AT_ONCE, FLAGS.num_iterations - step)
        session, metrics = training.train(config, task, session, keys, num_iterations=num)
        found.append(jax.tree.map(np.asarray, metrics))
        names = "episodes/accidents", "episodes/return", "value/loss"
        shown = {name: x[~np.isnan(x)] for name in names for x in [found[-1][name]]}
        progress(step + num, {name: float(x.mean()) for name, x in shown.items() if x.size})
    progress.close()
    final = training.evaluate(
        config, task, session.state, keys, num_episodes=FLAGS.num_evaluation_episodes
    )
    whole = {name: np.concatenate([part[name] for part in found], axis=1) for name in found[0]}
    whole |= {"random/accidents": first["episodes/accidents"]}
    whole |= {f"final/{name}": value for name, value in final.items()}
    return {name: np.asarray(value, float).tolist() for name, value in whole.items()}


def _curve(name: str, found: dict[str, Any]) -> safe_exploration.Curve:
    columns = {
        "accidents": "episodes/accidents",
        "episodes": "episodes/num",
        "episode_return": "episodes/return",
        "random_accidents": "random/accidents",
        "final_return": "final/return",
        "final_accidents": "final/accidents",
    }
    arrays = {field: np.array(found[column], float) for field, column in columns.items()}
    return safe_exploration.Curve(name, **arrays)


if __name__ == "__main__":
    launch(main, CONFIG)
