"""Loads policies from the checkpoints of runs: their actions, their critics' values, and the
returns of the run's own evaluations."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax import learner
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import Algorithm, named_in_file
from offrl_jax.config import validate
from offrl_jax.data.dataset import Data, Preprocessing
from offrl_jax.networks.serialization import config_from_json
from offrl_jax.networks.values import NETWORKS, Networks
from offrl_jax.runs.checkpoints import Checkpoints, Damaged
from offrl_jax.runs.directory import CONFIG
from offrl_jax.types import Array, Float, InputError, Spec, Transition

ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, repr=False)
class Trained:
    """The policies of a run at one step: those of the S seeds that had not diverged.

    Attributes:
      run: The run's directory.
      step: Updates taken.
      seeds: The S seeds.
      algorithm: The trained algorithm.
      config: Its config.
      state: States with leading axis S.
      spec: Spec of the data that the run learnt from.
      preprocessing: Preprocessing of those data.
      discount: γ of `discounted_returns`, and of the critic if there is one.
      returns: Undiscounted returns (S, E) of the episodes that the run rolled out at this step, in
        the environment's rewards, NaN where not finite; None without an evaluation.
      discounted_returns: Means over those episodes, (S,), or None.
    """

    run: Path
    step: int
    seeds: tuple[int, ...]
    algorithm: Algorithm
    config: Any
    state: Any
    spec: Spec
    preprocessing: Preprocessing
    discount: float
    returns: np.ndarray | None
    discounted_returns: np.ndarray | None

    def __repr__(self) -> str:
        return f"Trained({self.run} at step {self.step:,}, seeds {list(self.seeds)})"

    def as_learnt(self, dataset: Data) -> Data:
        """Applies the run's preprocessing to raw data, as `load_dataset` returns them.

        Raises:
          InputError: if the data are preprocessed already, or have other shapes than the run's.
        """
        if dataset.spec.bare() != self.spec.bare():
            raise InputError(
                f"{dataset.spec.name} has other observations or actions than {self.spec.name}, "
                f"which {self.run} learnt from; give data of the same environment"
            )
        if not dataset.preprocessing.is_identity:
            raise InputError(
                f"{dataset.spec.name} is preprocessed already; give it as load_dataset returns it"
            )
        own = self.preprocessing
        dataset = dataset.normalized(own, own)
        return dataset.rescaled(float(own.reward_scale), float(own.reward_bias), own)

    def actions(self, observation: np.ndarray) -> np.ndarray:
        """π(s) at raw observations (N, O), in [−1, 1]: (S, N, A)."""
        act = partial(_act, self.algorithm, self.config, self.state, self.preprocessing)
        return _by_chunks(act, observation)

    def values(self, observation: np.ndarray) -> np.ndarray | None:
        """The critics' V(s) at raw observations (N, O) in the run's own rewards, (S, N); None
        without a critic."""
        if self.algorithm.value is None:
            return None
        value = partial(_value, self.algorithm, self.config, self.state, self.preprocessing)
        return _by_chunks(value, observation)

    def q_values(self, raw: Transition) -> tuple[np.ndarray, np.ndarray] | None:
        """Means over a run's critics of Q(s, a) and Q(s′, π(s′)) at raw transitions, (S, N) each,
        in the run's own rewards; None without a critic of actions."""
        if self.algorithm.q_values is None:
            return None
        of = partial(_q_values, self.algorithm, self.config, self.state, self.preprocessing)
        here = _by_chunks(of, raw.observation, raw.action)
        return here, _by_chunks(of, raw.next_observation)


class Description(NamedTuple):
    """The content of a run's `config.json`.

    Attributes:
      settings: All settings.
      algorithm: The trained algorithm.
      config: Its config.
      spec: Spec of the data that the run learnt from.
      preprocessing: Preprocessing of those data.
      seeds: All S seeds of the run.
      discount: γ of returns-to-go and of discounted returns.
    """

    settings: dict[str, Any]
    algorithm: Algorithm
    config: Any
    spec: Spec
    preprocessing: Preprocessing
    seeds: tuple[int, ...]
    discount: float


def describe(
    settings: dict[str, Any], algorithm: Algorithm, networks: Networks, path: object
) -> Description:
    """Describes a run from its settings.

    Raises:
      InputError: as `config_from_json`, or if a value is out of range.
    """
    config = config_from_json(algorithm.Config, settings["config"], networks, path)
    validate(config)
    preprocessing = Preprocessing(
        *(jnp.asarray(settings["preprocessing"][f], jnp.float32) for f in Preprocessing._fields)
    )
    seeds = tuple(settings["seed"] + i for i in range(settings["num_seeds"]))
    spec, discount = Spec.from_json(settings["dataset"]), float(settings["discount"])
    return Description(settings, algorithm, config, spec, preprocessing, seeds, discount)


class Checkpoint(NamedTuple):
    """A run at one step.

    Attributes:
      step: Updates taken.
      state: States with leading axis S.
      diverged: For each seed, how and when it diverged, or None.
    """

    step: int
    state: Any
    diverged: list[str | None]


def read(
    run_dir: str | Path,
    algorithms: Mapping[str, Algorithm] = ALGORITHMS,
    networks: Networks = NETWORKS,
) -> Description:
    """Reads the description of a run, finished or not.

    Args:
      run_dir: The run's directory.
      algorithms: What may have been trained, by name.
      networks: Network classes by name.

    Raises:
      InputError: if there is no run, `algorithms` or `networks` lacks what it trained, or another
        version wrote it.
    """
    path = Path(run_dir).expanduser()
    try:
        settings = json.loads((path / CONFIG).read_text())
        algorithm = named_in_file(settings["algorithm"], algorithms, run_dir)
        return describe(settings, algorithm, networks, run_dir)
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{run_dir} holds no run that this version can read ({error!r}); give the directory of "
            "a run"
        ) from error


def checkpoints(run_dir: str | Path, run: Description) -> Iterator[Checkpoint]:
    """The whole checkpoints of a run, newest first. Damaged ones are reported as warnings.

    Raises:
      InputError: if the run has no checkpoints, or another version wrote them.
    """
    path = Path(run_dir).expanduser() / "checkpoints"
    if not path.is_dir():
        raise InputError(f"{run_dir} has no checkpoints; give a run that has saved one")
    keys = jax.random.split(jax.random.key(0), len(run.seeds))
    init = partial(learner.init, run.algorithm, run.config, run.spec)
    try:
        template = jax.eval_shape(init, keys)
    except InputError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise InputError(
            f"{run_dir} holds settings with which {run.algorithm.name} cannot start ({error!r}); "
            "give the network classes that it was trained with"
        ) from error
    stored = Checkpoints(path, read_only=True)
    try:
        for step in reversed(stored.steps()):
            try:
                state, facts = stored.restore_step(step, template)
            except Damaged as error:
                logging.warning("checkpoint %s of %s is damaged (%s)", step, run_dir, error)
                continue
            yield Checkpoint(step, state, facts["diverged"])
    finally:
        stored.abandon()


def load(
    run_dir: str | Path,
    algorithms: Mapping[str, Algorithm] = ALGORITHMS,
    networks: Networks = NETWORKS,
    *,
    all_checkpoints: bool = False,
) -> list[Trained]:
    """The policies of a run at its newest whole checkpoint, or at every whole one in order. The run
    may still be training. Damaged checkpoints are reported as warnings.

    Args:
      run_dir: Its directory.
      algorithms: As for `read`.
      networks: As for `read`.
      all_checkpoints: Whether to load every checkpoint.

    Raises:
      InputError: if there is no run, no policy in it, or as `read`.
    """
    run, path = read(run_dir, algorithms, networks), Path(run_dir).expanduser()
    evaluations = _evaluations(path / "evaluations.jsonl", len(run.seeds))
    found = []
    for checkpoint in checkpoints(run_dir, run):
        if None in checkpoint.diverged:
            evaluated = evaluations.get(checkpoint.step, (None, None))
            found.append(trained(path, run, checkpoint, *evaluated))
        if found and not all_checkpoints:
            break
    if not found:
        raise InputError(
            f"{run_dir} has no whole checkpoint with a policy that has not diverged; leave it out"
        )
    return found[::-1]


def trained(
    name: Path,
    run: Description,
    checkpoint: Checkpoint,
    returns: np.ndarray | None,
    discounted_returns: np.ndarray | None,
) -> Trained:
    """The policies at a checkpoint that have not diverged, with the returns (S, E) and mean
    discounted returns (S,) of their episodes, if any."""
    index = np.array([i for i, why in enumerate(checkpoint.diverged) if why is None])
    return Trained(
        run=name,
        step=checkpoint.step,
        seeds=tuple(run.seeds[i] for i in index),
        algorithm=run.algorithm,
        config=run.config,
        state=jax.tree.map(lambda x: x[index], checkpoint.state),
        spec=run.spec,
        preprocessing=run.preprocessing,
        discount=run.discount,
        returns=None if returns is None else returns[index],
        discounted_returns=None if discounted_returns is None else discounted_returns[index],
    )


def _evaluations(path: Path, num_seeds: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By step, the returns of every seed's episodes (S, E) and their discounted means (S,), NaN for
    null. Other rows are left out: failed evaluations, and half-written ones."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            step = int(row["step"])
            returns = np.array(row["episode_returns"], float)
            discounted = np.array(row["discounted_return"], float)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if returns.ndim == 2 and len(returns) == num_seeds and discounted.shape == (num_seeds,):
            found[step] = returns, discounted
    return found


@partial(jax.jit, static_argnames="algorithm")
def _act(
    algorithm: Algorithm, config: Any, state: Any, preprocessing: Preprocessing, observation: Array
) -> Float[Array, "S B A"]:
    observation = preprocessing.normalize(observation)
    return jax.vmap(lambda state: algorithm.act(config, state, observation, None))(state)


@partial(jax.jit, static_argnames="algorithm")
def _value(
    algorithm: Algorithm, config: Any, state: Any, preprocessing: Preprocessing, observation: Array
) -> Float[Array, "S B"]:
    observation = preprocessing.normalize(observation)
    return jax.vmap(lambda state: algorithm.value(config, state, observation))(state)


@partial(jax.jit, static_argnames="algorithm")
def _q_values(
    algorithm: Algorithm,
    config: Any,
    state: Any,
    preprocessing: Preprocessing,
    observation: Array,
    action: Array | None = None,
) -> Float[Array, "S B"]:
    """At the given actions, or the policy's."""
    observation = preprocessing.normalize(observation)

    def of_seed(state: Any) -> Array:
        chosen = algorithm.act(config, state, observation, None) if action is None else action
        return jnp.mean(algorithm.q_values(config, state, observation, chosen), axis=0)

    return jax.vmap(of_seed)(state)


def _by_chunks(function: Any, *arrays: np.ndarray) -> np.ndarray:
    """`function(*rows)`, (S, B, ...), over all N rows, in chunks of equal size, so that one program
    is compiled."""
    num_rows = len(arrays[0])
    size = min(num_rows, ROWS_AT_ONCE)
    chunks = []
    for start in range(0, num_rows, size):
        index = np.arange(start, start + size) % num_rows
        chunks.append(np.asarray(function(*(array[index] for array in arrays))))
    return np.concatenate(chunks, axis=1)[:, :num_rows]
