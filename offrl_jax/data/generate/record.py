"""Records the transitions of any environment, with whatever acts in it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from offrl_jax import environments
from offrl_jax.types import InputError

Act = Callable[[Any], Any]  # an environment's observation to its action


def record(
    env,
    actors: Iterator[Act],
    num_transitions: int,
    *,
    seed: int = 0,
    observation_keys: tuple[str, ...] = (),
    tick: Callable[[int], None] = lambda rows: None,
) -> dict[str, np.ndarray]:
    """Plays whole episodes; the last one is cut where N transitions are reached.

    Args:
      env: As Gymnasium makes it.
      actors: Policies, one an episode, without an end.
      num_transitions: N, at least 1.
      seed: Of the environment, once: later episodes continue its generator.
      observation_keys: Entries of a Dict observation to concatenate; none for a Box.
      tick: Called after every episode with the number of transitions.

    Returns:
      The arrays of `dataset_from_arrays`, (N, ...), actions in the environment's bounds or indices.

    Raises:
      InputError: if so many cannot be held, or observations or actions cannot be learnt from.
    """
    size = environments.flat_size(env.observation_space, observation_keys)
    num_actions, action_size = environments.described_actions(env.spec.id, env.action_space)
    try:
        arrays = {
            "observation": np.empty((num_transitions, size), np.float32),
            "action": np.empty((num_transitions, action_size), np.float32)
            if num_actions is None
            else np.empty(num_transitions, np.int32),
            "reward": np.empty(num_transitions, np.float32),
            "next_observation": np.empty((num_transitions, size), np.float32),
            "terminal": np.zeros(num_transitions, bool),
            "timeout": np.zeros(num_transitions, bool),
        }
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"{num_transitions} transitions are more than memory holds ({error}); ask for fewer"
        ) from error
    env.reset(seed=seed)
    row = 0
    while row < num_transitions:
        row += record_episode(env, next(actors), arrays, row, observation_keys)
        tick(row)
    return arrays


def record_episode(
    env,
    act: Act,
    arrays: dict[str, np.ndarray],
    row: int,
    observation_keys: tuple[str, ...] = (),
    *,
    seed: int | None = None,
) -> int:
    """Writes one episode's rows from `row` on, as many as fit; returns their number."""
    observation, _ = env.reset(seed=seed)
    num_rows = len(arrays["reward"]) - row
    for step in range(num_rows):
        action = act(observation)
        next_observation, reward, terminal, truncation, _ = env.step(action)
        values = {
            "observation": environments.flatten_observation(observation, observation_keys),
            "action": action,
            "reward": reward,
            "next_observation": environments.flatten_observation(
                next_observation, observation_keys
            ),
            "terminal": terminal,
            "timeout": truncation and not terminal,
        }
        for field, array in arrays.items():
            array[row + step] = values[field]
        observation = next_observation
        if terminal or truncation:
            return step + 1
    return num_rows


def uniform(env, rng: np.random.Generator) -> Act:
    """Uniformly random actions of the environment, its observations unseen.

    Raises:
      InputError: if its actions are of another kind than can be learnt, or have no finite bounds.
    """
    num_actions, _ = environments.described_actions(env.spec.id, env.action_space)
    if num_actions is not None:
        return lambda observation: int(rng.integers(num_actions))
    low, high = env.action_space.low, env.action_space.high
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError(
            f"actions of {env.spec.id} have no finite bounds, so that none are uniformly random; "
            "take an environment whose have"
        )
    return lambda observation: rng.uniform(low, high).astype(np.float32)


def with_random_share(act: Act, epsilon: float, random: Act, rng: np.random.Generator) -> Act:
    """`act`, but with probability ε, step by step, `random` instead."""
    return lambda observation: (random if rng.random() < epsilon else act)(observation)
