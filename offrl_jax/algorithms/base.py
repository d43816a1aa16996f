"""The contract of an algorithm: pure functions over a config, a state, a batch and a key."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.data.dataset import Dataset, gather
from offrl_jax.types import InputError, Key, Spec


class Algorithm(NamedTuple):
    """What the learner, the rollouts and the command line need to know about an algorithm.

    Attributes:
      name: The name users type.
      Config: A `@config` class with at least `batch_size`; critics also have `discount`.
      init: (config, spec, key) -> state, a NamedTuple with at least `step`, an int32 scalar. It
        reads only sizes and bounds of the spec (`Spec.bare`).
      update: (config, state, batch, key) -> (state, metrics); adds 1 to `state.step`.
      act: (config, state, observation, key | None) -> actions (B, A), in [−1, 1] or one-hot, of a
        (B, O) batch of normalised observations; None asks for the mode.
      value: (config, state, observation) -> the critic's estimate (B,) of the discounted return
        from these observations, in transformed rewards; None without a critic.
      citation: The paper.
      phases: (config, update) -> the phases of training in order, where `update` is that of the
        algorithm, so that a replaced one trains; None if every step is an `update`.
      q_values: (config, state, observation, action) -> Q_k(s, a) of every critic, (E, B) for one
        action a state, (E, B, N) for several, (B, N, A); None without a critic of actions.
      discrete: (config) -> whether the actions that it learns are discrete.
      check: (config, dataset) -> None, called on the host when training on the data starts; raises
        InputError if the algorithm cannot learn from them with these settings. None if it always
        can.
      batch: What a step samples; None samples B transitions uniformly with replacement.
      chunk: (config, state, observation, key | None) -> the next h actions (B, h, A). Evaluation
        plays all h before it asks again. None calls `act` at every step.
      samples: Whether evaluation samples actions instead of taking the mode.
    """

    name: str
    Config: type
    init: Callable
    update: Callable
    act: Callable
    value: Callable | None
    citation: str
    phases: Callable | None = None
    q_values: Callable | None = None
    discrete: Callable = lambda config: False
    check: Callable | None = None
    batch: "Batch | None" = None
    chunk: Callable | None = None
    samples: bool = False

    def __repr__(self) -> str:
        return f"Algorithm({self.name}, {self.citation})"


class Batch(NamedTuple):
    """What a step samples from the dataset: which rows, and the batch made of them.

    Attributes:
      index: (config, key, episode) -> a pytree of int32 arrays (B, ...), the rows to gather. Each
        row's `episode` (N,) is a number that counts from 0 and never decreases.
      make: (config, index, transitions) -> the batch. `transitions` is the pytree `index` with a
        `Transition` in place of each array.
    """

    index: Callable
    make: Callable

    def sample(self, config: Any, dataset: Dataset, key: Key) -> Any:
        """Samples a batch of a dataset in device memory."""
        index = self.index(config, key, dataset.episode)
        transitions = jax.tree.map(lambda rows: gather(dataset, rows), index)
        return self.make(config, index, transitions)


class Phase(NamedTuple):
    """A phase of training. Its updates are known before it is compiled, so that no step pays for a
    branch that it does not take.

    Attributes:
      updates: Functions like `Algorithm.update`, taken in turn, one per step: (critic_update,
        update) steps the actor every other time.
      num_steps: Number of steps; None for the last phase, and only there, which has no end.
      relabel: (config, state, dataset) -> (state, dataset), the data that the updates see. Called
        when training starts or resumes and before every step divisible by `relabel_every`; between
        two such steps it must always return the same.
      relabel_every: Steps; None if the labels never change.
    """

    updates: tuple[Callable, ...]
    num_steps: int | None = None
    relabel: Callable | None = None
    relabel_every: int | None = None


class UnknownAlgorithm(InputError, KeyError):
    """There is no algorithm of this name."""

    __str__ = Exception.__str__  # KeyError's puts the sentence in quotes


def check_algorithm(algorithm: Any) -> None:
    """Raises InputError unless it is an `Algorithm`."""
    if not isinstance(algorithm, Algorithm):
        raise InputError(
            f"algorithm={algorithm!r} is a {type(algorithm).__name__}, not an Algorithm; give one, "
            'such as ALGORITHMS["iql"]'
        )


def check_config(algorithm: Any, config: Any) -> None:
    """Raises InputError unless the config is one of the algorithm's."""
    check_algorithm(algorithm)
    if not isinstance(config, algorithm.Config):
        raise InputError(
            f"config is a {type(config).__name__}, but {algorithm.name} takes a "
            f"{algorithm.Config.__name__}"
        )


def named_in_file(name: str, algorithms: Mapping[str, Algorithm], path: object) -> Algorithm:
    """The algorithm that a file names, among those it can be; nothing is imported for a file.

    Raises:
      InputError: if none of them has the name.
    """
    if name not in algorithms:
        raise InputError(f"{path} is a run of the algorithm {name!r}; give that as algorithm=…")
    return algorithms[name]


def check_actions(algorithm: Algorithm, config: Any, spec: Spec) -> None:
    """Raises InputError unless the algorithm with this config learns actions of the task's kind."""
    kinds = {
        False: f"continuous ones, {spec.action_size} numbers each",
        True: f"{spec.action_size} discrete ones",
    }
    if algorithm.discrete(config) != spec.discrete:
        raise InputError(
            f"actions of dataset {spec.name} are {kinds[spec.discrete]}, but {algorithm.name} as "
            f"configured learns {'continuous' if spec.discrete else 'discrete'} ones; use another "
            "algorithm or, if it has one, another policy=…"
        )


def phases_of(algorithm: Algorithm, config: Any) -> tuple[Phase, ...]:
    """The phases that training with this config goes through, leaving out empty ones.

    Raises:
      ValueError: if a phase before the last has no length, or the last has one.
      InputError: if no phase takes the algorithm's update.
    """
    if algorithm.phases is None:
        return (Phase((algorithm.update,)),)
    *earlier, last = algorithm.phases(config, algorithm.update)
    if not any(algorithm.update in phase.updates for phase in (*earlier, last)):
        raise InputError(
            f"no phase of {algorithm.name} takes its update, so training would ignore it; return "
            "phases that hold the update that phases(config, update) is given"
        )
    if last.num_steps is not None or any(phase.num_steps is None for phase in earlier):
        raise ValueError(f"{algorithm.name}: every phase but the last needs a length")
    return (*(phase for phase in earlier if phase.num_steps), last)


def stretches(phases: Sequence[Phase], state: Any, num_steps: int) -> list[tuple[Phase, int]]:
    """The next `num_steps` steps from this state: phases, each with its number of steps and its
    updates rotated to start with the next one.

    Raises:
      InputError: if there are several programs to choose from and the state is traced.
    """
    if len(phases) == 1 and len(phases[0].updates) == 1 and phases[0].relabel_every is None:
        return [(phases[0], num_steps)]  # whatever the step, so `learn` can be traced
    if isinstance(state.step, jax.core.Tracer):
        raise InputError(
            "training in phases reads the step to choose its program, so `learn` cannot be traced "
            "for this algorithm; call it outside of jax.jit and jax.vmap"
        )
    start = step = int(jnp.ravel(state.step)[0])  # of all steps; of the phase's
    found = []
    for phase in phases:
        length = math.inf if phase.num_steps is None else phase.num_steps
        while num_steps > 0 and step < length:
            taken = min(length - step, num_steps)
            if phase.relabel_every is not None:
                taken = min(taken, phase.relabel_every - start % phase.relabel_every)
            first = step % len(phase.updates)
            turned = phase.updates[first:] + phase.updates[:first]
            found.append((phase._replace(updates=turned, num_steps=None), taken))
            start, step, num_steps = start + taken, step + taken, num_steps - taken
        step = max(step - length, 0)
    return found


def pieces(stretches: list[tuple[Phase, int]], most: int) -> list[tuple[Phase, int]]:
    """Cuts the stretches into equal pieces of at most `most` steps, of whole cycles of updates if
    these fit."""
    found = []
    for phase, length in stretches:
        cycle = len(phase.updates)
        unit = cycle if cycle <= most else 1
        num_pieces = -(-length // (most // unit * unit))
        size = -(-length // (num_pieces * unit)) * unit
        for start in range(0, length, size):
            first = start % cycle
            turned = phase.updates[first:] + phase.updates[:first]
            found.append((phase._replace(updates=turned), min(size, length - start)))
    return found
