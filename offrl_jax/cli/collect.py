"""Records a dataset: transitions of trained policies, of uniformly random actions, or of both.

  offrl collect --env_id=CartPole-v1 --num_transitions=10000 --output=random.npz
  offrl collect runs/dqn --epsilon=0.1 --output=mine.npz
  offrl collect runs/dqn --epsilon=0.1 --extend=random.npz --output=grown.npz

Without a run, actions are random. Several runs, and random actions with --random, alternate by
episode. --extend copies an earlier recording in front of the new transitions, so that collecting
and training can alternate. The file has D4RL's layout and names its environment.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_networks, own_algorithm
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section
from offrl_jax.files import replacing
from offrl_jax.runs.messages import say
from offrl_jax.runs.progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from offrl_jax.data.generate.record import Act
    from offrl_jax.runs.policy import Policy

with section("policies"):
    define("seed_index", "algorithm", "networks")
    flags.DEFINE_bool("random", False, "alternate the runs' episodes with random ones")
    flags.DEFINE_float("epsilon", 0.0, "share of random actions in a policy's episodes", 0.0, 1.0)
with section("environment"):
    define("env_id", "observation_keys", "seed")
with section("output"):
    flags.DEFINE_string("output", None, "npz file to write; must not exist")
    flags.DEFINE_integer("num_transitions", 10_000, "transitions to record", 1)
    flags.DEFINE_string("extend", None, "earlier recording to copy in front of the new transitions")

COLUMNS = {
    "observation": "observations",
    "action": "actions",
    "reward": "rewards",
    "next_observation": "next_observations",
    "terminal": "terminals",
    "timeout": "timeouts",
}
TASK = ("env_id", "env_kwargs", "max_episode_steps", "observation_keys")


def main(*run_dirs: str) -> None:
    from offrl_jax.data.generate.record import record

    output = _output()
    policies = {
        run_dir: orl.load_policy(
            run_dir,
            FLAGS.seed_index,
            algorithm=own_algorithm(FLAGS.algorithm, run_dir),
            networks=find_networks(FLAGS.networks),
        )
        for run_dir in run_dirs
    }
    env, task = _environment(policies)
    earlier = _earlier(task) if FLAGS.extend else {}
    arrays = record(
        env,
        _actors(env, policies.values()),
        FLAGS.num_transitions,
        seed=FLAGS.seed,
        observation_keys=task.get("observation_keys", ()),
        tick=_Progress(FLAGS.num_transitions),
    )
    env.close()
    ends = arrays["terminal"] | arrays["timeout"]
    cut = not ends[-1]
    arrays["timeout"][-1] |= cut  # whatever follows in a longer file is another episode
    columns = {COLUMNS[field]: array for field, array in arrays.items()}
    columns = {k: np.concatenate([earlier[k], x]) if earlier else x for k, x in columns.items()}
    try:
        with replacing(output) as part, part.open("wb") as file:
            np.savez(file, **columns, **task)
    except OSError as error:
        raise orl.InputError(
            f"output {output} cannot be written ({error}); give another"
        ) from error
    returns = np.add.reduceat(arrays["reward"], np.r_[0, np.flatnonzero(ends[:-1]) + 1])
    whole = returns[:-1] if cut else returns
    print(
        f"{output}: {len(columns['rewards']):,} transitions, {len(arrays['reward']):,} of them new "
        f"in {len(returns):,} episodes"
        + (f", mean return {whole.mean():.4g} of those that ended" if len(whole) else "")
    )


def _output() -> Path:
    if not FLAGS.output:
        raise orl.InputError("no output=… is given; give the path of an npz file")
    output = Path(FLAGS.output)
    if output.suffix != ".npz":
        raise orl.InputError(f"output {output} is not an npz file; give a path that ends in .npz")
    if output.exists() or not output.parent.is_dir():
        why = "exists already" if output.exists() else f"has no folder {output.parent}"
        raise orl.InputError(f"output {output} {why}; give another path")
    return output


def _environment(policies: dict[str, "Policy"]) -> tuple[Any, dict[str, Any]]:
    """The environment to record in, and its description for the file. `policies` are by run."""
    from offrl_jax import environments
    from offrl_jax.data import scores

    named = FLAGS.env_id and {
        "env_id": FLAGS.env_id,
        "env_kwargs": json.dumps(dict(scores.family(FLAGS.env_id).needs)),
        "max_episode_steps": None,
    }
    if policies:
        if FLAGS.observation_keys:
            raise orl.InputError(
                "policies observe the entries that they learnt from; leave observation_keys out"
            )
        specs = [dataclasses.replace(p.spec, **named or {}) for p in policies.values()]
        tasks = [{name: getattr(spec, name) for name in TASK} for spec in specs]
        first, *_ = policies
        if specs[0].env_id is None:
            raise orl.InputError(
                f"the data of {first} name no environment to record in; give env_id=…"
            )
        for run_dir, task in zip(policies, tasks, strict=True):
            if task != tasks[0]:
                raise orl.InputError(
                    f"{run_dir} has another task than {first} ({task}, not {tasks[0]}); record "
                    "them separately"
                )
        env, task = environments.make_from_spec(specs[0]), tasks[0]
    elif named:
        env = environments.make(FLAGS.env_id, json.loads(named["env_kwargs"]))
        task = named | {"observation_keys": tuple(FLAGS.observation_keys)}
    else:
        raise orl.InputError("no environment is named; give env_id=… or runs whose policies act")
    num_actions, _ = environments.described_actions(env.spec.id, env.action_space)
    task |= {"num_actions": num_actions}
    return env, {name: value for name, value in task.items() if value not in (None, ())}


def _actors(env, policies: Iterable["Policy"]) -> Iterator["Act"]:
    from offrl_jax.data.generate.record import uniform, with_random_share

    rng = np.random.default_rng(FLAGS.seed)
    random = uniform(env, rng)
    actors = [with_random_share(policy, FLAGS.epsilon, random, rng) for policy in policies]
    return itertools.cycle([random, *actors] if FLAGS.random or not actors else actors)


def _earlier(task: dict[str, Any]) -> dict[str, np.ndarray]:
    """The columns of the recording to extend, whose task must be the same."""
    try:
        with np.load(FLAGS.extend, allow_pickle=False) as file:
            found = dict(file)
        columns = {column: found.pop(column) for column in COLUMNS.values()}
    except Exception as error:  # a damaged archive may raise anything
        raise orl.InputError(
            f"extend={FLAGS.extend} is not a recording of this command ({error!r}); give one"
        ) from error
    described = {key: np.asarray(value).tolist() for key, value in task.items()}
    other = {key: value.tolist() for key, value in found.items()}
    if other != described:
        raise orl.InputError(
            f"extend={FLAGS.extend} was recorded in {other}, not in {described}; record them "
            "separately"
        )
    return columns


class _Progress:
    """Prints a line at intervals."""

    def __init__(self, num_transitions: int):
        self._num_transitions = num_transitions
        self._last_line = time.perf_counter()

    def __call__(self, rows: int) -> None:
        now = time.perf_counter()
        if now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            say(f"{rows:,}/{self._num_transitions:,} transitions")


if __name__ == "__main__":
    launch(main)
