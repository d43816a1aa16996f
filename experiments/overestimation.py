"""Compares what CQL, ensembles and BEAR believe their policies to be worth with what they are.

  python -m experiments.overestimation
  python -m experiments.overestimation --dataset=hopper-medium.hdf5 --output=runs/hopper
  python -m experiments.overestimation --methods=cql_h,cql_eqn1 --conservative_weights=1,5,20

Prints the table of the CQL paper (its table 4): the mean over first states s₀ of Q(s₀, π(s₀)), less
the mean discounted return from the same s₀, at the end of training. Rewards and observations are
prepared as CQL's preset for the domain does. The table goes to overestimation.json and .png in
the output folder, every evaluation to curves.jsonl. Seeds train in one program, and so do methods
whose settings differ in numbers alone. A stopped run resumes with the methods that it had not
finished, given the same command and --output.
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
from experiments.overestimation_methods import DEFAULT, METHODS, SCALES
from offrl_jax import data, devices, environments, learner
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.config import stack, validate
from offrl_jax.data import Dataset, scores
from offrl_jax.data.transforms import with_discount
from offrl_jax.evaluation import diagnostics
from offrl_jax.evaluation.rollouts import Evaluator, summarize
from offrl_jax.files import write_json
from offrl_jax.networks.serialization import settings_to_json
from offrl_jax.presets.preset import find_preset, prepared
from offrl_jax.reports import value_bias
from offrl_jax.runs.progress import Progress
from offrl_jax.runs.schedule import schedule, seed_keys
from offrl_jax.types import InputError, Key

flags.DEFINE_string("dataset", "pointmaze/umaze", "a maze, Minari id or file, see README.md")
flags.DEFINE_string("env_id", None, "evaluation environment, where the data names none or another")
flags.DEFINE_bool("clip_actions", False, "clip actions outside their bounds, counted in a warning")
flags.DEFINE_bool(
    "trust_dataset_env", False, "run the code that the data name for an unregistered environment"
)
flags.DEFINE_string("output", None, "folder of the results (default: one under runs/)")
flags.DEFINE_list("methods", DEFAULT, f"of {', '.join(METHODS)}")
flags.DEFINE_list("conservative_weights", ["5"], "w of CQL's methods; several are several rows")
flags.DEFINE_enum(
    "scale",
    "quick",
    tuple(SCALES),
    "quick: an hour on a CPU; paper: networks and rates of the CQL paper, for a GPU",
)
flags.DEFINE_integer("num_steps", None, "updates a seed (default: by --scale)", 1)
flags.DEFINE_integer("num_seeds", 3, "seeds of every method", 1)
flags.DEFINE_integer("seed", 0, "the first seed; the others follow on", 0)
flags.DEFINE_integer("num_evaluations", 10, "equally spaced evaluations, the last at the end", 1)
flags.DEFINE_integer("num_evaluation_episodes", 10, "episodes a seed", 1)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    algorithm: str
    config: Any


def main() -> None:
    devices.use_cores(FLAGS.num_seeds)
    keys = seed_keys(FLAGS.seed, FLAGS.num_seeds)
    rows = _rows()
    num_steps = FLAGS.num_steps or SCALES[FLAGS.scale][0]
    for row in rows:  # refuses steps that evaluations cannot divide, before anything is written
        _dispatches(row, num_steps)
    dataset = data.load_dataset(
        FLAGS.dataset,
        env_id=FLAGS.env_id,
        clip_actions=FLAGS.clip_actions,
        trust_dataset_env=FLAGS.trust_dataset_env,
    )
    environments.make_from_spec(dataset.spec).close()  # refuses before anything is written
    preset = find_preset("cql", scores.domain(dataset.spec))
    dataset = with_discount(prepared(dataset, preset), rows[0].config.discount)
    output = FLAGS.output or f"runs/overestimation-{time.strftime('%Y%m%d-%H%M%S')}"
    output = Path(os.path.expanduser(output))
    settings = {
        "num_steps": num_steps,
        **{name: FLAGS[name].value for name in ("num_seeds", "seed", "num_evaluations")},
        "num_evaluation_episodes": FLAGS.num_evaluation_episodes,
        "dataset": dataset.spec.to_json(),
        "preprocessing": {k: v.tolist() for k, v in dataset.preprocessing._asdict().items()},
        "rows": {r.name: [r.algorithm, settings_to_json(r.config)] for r in rows},
    }
    facts = {"dataset_fingerprint": dataset.spec.fingerprint}
    done = resumable.finished(output, settings, facts)
    groups = _groups([row for row in rows if row.name not in done])
    print(f"{len(rows)} methods, {len(groups)} programs to train", flush=True)
    behavior = diagnostics.clone_behavior(dataset) if groups else None
    for group in groups:
        names = [row.name for row in group]
        print(", ".join(names), flush=True)
        trained = _trained(group, dataset, behavior, keys, num_steps)
        done |= dict(zip(names, trained, strict=True))
        resumable.save(output, done)
    curves = [_curve(row.name, done[row.name]) for row in rows]
    write_json(output / "overestimation.json", value_bias.table(curves))
    text = value_bias.markdown(curves)
    name = Path(FLAGS.dataset).name if Path(FLAGS.dataset).suffix else FLAGS.dataset
    title = (
        f"{name}, {num_steps:,} updates, {FLAGS.num_seeds} seeds, "
        f"{FLAGS.num_evaluation_episodes} episodes each, seed {FLAGS.seed} on"
    )
    value_bias.plot(output / "overestimation.png", curves, title)
    print(f"\n{title}\n\n{text}\n\n{output}/overestimation.json, .png and curves.jsonl")


def _rows() -> list[Row]:
    """The chosen methods, those of CQL once for each weight.

    Raises:
      InputError: if there is no such method, a weight is no number, or a row comes twice.
    """
    try:
        weights = [float(weight) for weight in FLAGS.conservative_weights]
    except ValueError as error:
        raise InputError(
            f"conservative_weights={','.join(FLAGS.conservative_weights)} are not all numbers; "
            "give some like 1,5,20"
        ) from error
    if not weights or not FLAGS.methods:
        raise InputError("methods and conservative_weights need at least one entry each")
    rows = []
    for flag in FLAGS.methods:
        if flag not in METHODS:
            raise InputError(f"there is no method {flag!r}; there are {', '.join(METHODS)}")
        name, algorithm, own = METHODS[flag]
        config_type = ALGORITHMS[algorithm].Config
        fields = {f.name for f in dataclasses.fields(config_type)}
        _, shared, by_algorithm = SCALES[FLAGS.scale]
        own = (
            {k: v for k, v in shared.items() if k in fields} | by_algorithm.get(algorithm, {}) | own
        )
        weighted = "conservative_weight" in fields and "conservative_weight" not in own
        for weight in weights if weighted else weights[:1]:
            changes = {"conservative_weight": weight} if weighted else {}
            several = f", w = {weight:g}" if weighted and len(weights) > 1 else ""
            config = config_type(**own | changes)
            validate(config)
            rows.append(Row(name + several, algorithm, config))
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{twice} is asked for twice in methods or conservative_weights")
    return rows


def _groups(rows: list[Row]) -> list[list[Row]]:
    """Rows that one program can train: the same algorithm, other numbers."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.algorithm, jax.tree.structure(row.config)), []).append(row)
    return list(groups.values())


def _dispatches(row: Row, num_steps: int) -> list[tuple[int, bool]]:
    phases = phases_of(ALGORITHMS[row.algorithm], row.config)
    return schedule(phases, num_steps, FLAGS.num_evaluations)


def _trained(
    group: list[Row], dataset: Dataset, behavior: Any, keys: Key, num_steps: int
) -> list[list[dict[str, Any]]]:
    """Each row's evaluations, of H settings × S seeds in one program."""
    algorithm = ALGORITHMS[group[0].algorithm]
    config = stack([row.config for row in group])
    keys = jax.numpy.broadcast_to(keys, (len(group), *keys.shape))
    evaluator = Evaluator(algorithm, dataset, keys.shape, FLAGS.num_evaluation_episodes)
    state = learner.init(algorithm, config, dataset.spec, keys)
    dataset = learner.replicated(dataset, keys)
    states = diagnostics.states(dataset)
    dispatches = _dispatches(group[0], num_steps)
    total = sum(length for length, _ in dispatches)
    progress = Progress(total)
    step = 0
    evaluations: list[list[dict[str, Any]]] = [[] for _ in group]
    for length, evaluates in dispatches:
        step += length
        state, metrics = learner.learn(algorithm, config, dataset, state, keys, num_steps=length)
        progress(step, {k: float(v.mean()) for k, v in metrics.items() if k.endswith("/loss")})
        if not evaluates:
            continue
        rollouts = evaluator(config, state)
        found = diagnostics.diagnose(algorithm, config, states, state, behavior)
        for h, rows in enumerate(evaluations):
            row = summarize(rollouts[h], dataset.spec)
            row |= {name: np.asarray(value[h]).tolist() for name, value in found.items()}
            rows.append({"step": step - (total - num_steps)} | row)  # pretraining does not count
    progress.close()
    evaluator.close()
    return evaluations


def _curve(name: str, evaluations: list[dict[str, Any]]) -> value_bias.Curve:
    judged_by = "score" if "score" in evaluations[-1] else "return"
    diverged = [np.nan] * FLAGS.num_seeds  # in evaluations where no seed had a value
    return value_bias.Curve(
        method=name,
        judged_by=judged_by,
        step=[row["step"] for row in evaluations],
        learned=_finite([row.get("learned_value", diverged) for row in evaluations]),
        actual=_finite([row["actual_value"] for row in evaluations]),
        judged=_finite([row[judged_by] for row in evaluations]),
    )


def _finite(values: list[list[float | None]]) -> np.ndarray:
    """NaN for infinity, as for what was read back from a file."""
    array = np.array(values, float)
    return np.where(np.isfinite(array), array, np.nan)


if __name__ == "__main__":
    launch(main)
