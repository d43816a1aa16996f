"""Flat arrays to a dataset. Every source ends here, so only this module has the rules of episode
ends: a true end stops the bootstrap, a time-out does not, and nothing crosses an episode boundary.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data import checks
from offrl_jax.data.dataset import Dataset, Preprocessing, fingerprint, returns_to_go
from offrl_jax.types import InputError, Spec, Transition, did_you_mean

FIELDS = {  # by a file's key
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "terminals": "terminal",
    "timeouts": "timeout",
    "next_observations": "next_observation",
}
REQUIRED = "observation", "action", "reward", "terminal"
FLAGS = "terminal", "timeout", "episode_end"  # of 0 and 1


def by_field(name: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A file's columns under the argument names of `dataset_from_arrays`.

    Without `masks`, `terminals` are true ends (D4RL). With them (OGBench), a mask of 0 stops the
    bootstrap, also in mid-trajectory, and `terminals` mark where trajectories end.

    Raises:
      InputError: if a mask is neither 0 nor 1.
    """
    found = {FIELDS.get(key, key): column for key, column in columns.items() if key != "masks"}
    if "masks" in columns:
        masks = np.asarray(columns["masks"])
        if masks.dtype.kind not in "fiub" or not np.isin(masks, (0, 1)).all():
            raise InputError(f"masks of {name} hold other values than 0 and 1; correct the file")
        found |= {"terminal": masks == 0, "episode_end": found.get("terminal")}
    return found


def dataset_from_arrays(
    observation: np.ndarray | None = None,
    action: np.ndarray | None = None,
    reward: np.ndarray | None = None,
    terminal: np.ndarray | None = None,
    *,
    timeout: np.ndarray | None = None,
    episode_end: np.ndarray | None = None,
    next_observation: np.ndarray | None = None,
    action_low: float | Sequence[float] | np.ndarray = -1.0,
    action_high: float | Sequence[float] | np.ndarray = 1.0,
    num_actions: int | np.integer | None = None,
    clip_actions: bool = False,
    discount: float = 0.99,
    name: str = "arrays",
    **spec,
) -> Dataset:
    """Builds a dataset from flat arrays in time order, given by name or by a file's plural keys
    (`observations`, ..., OGBench's `masks`).

    An episode ends where `terminal` or `timeout` is set (if both are, terminal wins, with a
    warning) and at the last row, which counts as truncated. A truncated transition bootstraps from
    its stored next observation. Without `next_observation`, truncated transitions are dropped, and
    the others take the next row's observation.

    Args:
      observation: (N, O), raw.
      action: (N, A), in the environment's bounds; (N,), indices of discrete actions.
      reward: (N,).
      terminal: (N,), true ends only.
      timeout: (N,), time-outs and cuts.
      episode_end: (N,), where episodes end, if not wherever one of the two above is set: OGBench's
        masks stop the bootstrap in mid-episode.
      next_observation: (N, O).
      action_low: Lower action bounds, a number or A numbers; ignored for discrete actions.
      action_high: Upper action bounds, likewise.
      num_actions: Number A of discrete actions, given as indices 0 to A − 1 and stored as one-hot
        rows; None for continuous actions.
      clip_actions: Whether to clip actions outside their bounds, with a warning, instead of
        refusing them.
      discount: γ of the discounted return-to-go, in [0, 1].
      name: The dataset's name in messages.
      **spec: Further fields of `Spec` (env_id, reference_scores, ...).

    Raises:
      InputError: naming the field whose length, shape, type or values cannot be used.
    """
    if not 0 <= discount <= 1:
        raise InputError(f"the discount is {discount}; give a number in [0, 1]")
    given = {
        "observation": observation,
        "action": action,
        "reward": reward,
        "terminal": terminal,
        "timeout": timeout,
        "episode_end": episode_end,
        "next_observation": next_observation,
    }
    by_key = {key: spec.pop(key) for key in (*FIELDS, "masks") if key in spec}
    for field, array in by_field(name, by_key).items():
        if given[field] is not None:
            raise InputError(f"dataset {name} has two arrays of {field}; give one")
        given[field] = array
    _check_names(name, [field for field, x in given.items() if x is not None], spec)
    are_whole = getattr(given["action"], "dtype", np.dtype(float)).kind in "iub"
    wide = {"observation", "next_observation"} | ({"action"} if num_actions is None else set())
    fields = {
        field: checks.numbers(name, field, array, 2 if field in wide else 1)
        for field, array in given.items()
        if array is not None
    }
    n = len(fields["observation"])
    if n == 0:
        raise InputError(f"dataset {name} is empty; give at least one transition")
    for field, array in fields.items():
        if len(array) != n:
            raise InputError(
                f"dataset {name} has {len(array)} rows of {field} but {n} of observation; "
                "every field needs one row a transition"
            )
    observation, action, reward = (fields[key] for key in ("observation", "action", "reward"))
    next_observation = fields.get("next_observation")
    if next_observation is not None and next_observation.shape != observation.shape:
        raise InputError(
            f"dataset {name} has next_observation of width {next_observation.shape[1]} but "
            f"observation of width {observation.shape[1]}"
        )
    flags = {key: fields[key] for key in FLAGS if key in fields}
    terminal, timeout = (flags.get(k, np.zeros(n)) == 1 for k in ("terminal", "timeout"))
    end = flags["episode_end"] == 1 if "episode_end" in flags else terminal | timeout
    end[-1] = True
    episode = checks.episodes(end)
    for key, array in fields.items():
        what = f"{key} of dataset {name} is not finite"
        checks.never(~np.isfinite(array), what, episode, "repair or drop that episode")
    for key, array in flags.items():
        what = f"{key} of dataset {name} has values other than 0 and 1"
        checks.never(~np.isin(array, (0, 1)), what, episode, "correct that episode")
    if both := int((terminal & timeout).sum()):
        logging.warning(
            "terminal and timeout of dataset %s are both set in %d of %d transitions; "
            "they are taken as true ends",
            name,
            both,
            n,
        )
    if num_actions is None:
        if are_whole:
            logging.warning(
                "actions of dataset %s are whole numbers and taken as continuous; give num_actions "
                "if they are indices",
                name,
            )
        low, high = checks.bounds(name, action_low, action_high, action.shape[1])
        action = checks.to_unit(name, action, low, high, episode, clip_actions)
    else:
        action = checks.to_one_hot(name, action, num_actions, episode)
        low, high = np.zeros(action.shape[1]), np.ones(action.shape[1])

    rows = Transition(
        observation=observation,
        action=action,
        reward=reward,
        next_observation=next_observation,
        terminal=terminal.astype(np.float32),
        next_action=np.concatenate([action[1:], action[-1:]]),
        next_action_valid=(~end).astype(np.float32),
        return_to_go=reward,  # replaced below, once the rows are final
    )
    if next_observation is None:
        rows = rows._replace(next_observation=np.concatenate([observation[1:], observation[-1:]]))
        known = ~end | terminal
        if not known.any():
            raise InputError(
                f"dataset {name} has no transition with a known next observation; "
                "give next_observation"
            )
        rows = Transition(*(field[known] for field in rows))
        episode = np.unique(episode[known], return_inverse=True)[1].astype(np.int32)
    rows = rows._replace(return_to_go=returns_to_go(rows.reward, episode, discount))

    spec = Spec(
        observation_size=observation.shape[1],
        action_size=action.shape[1],
        action_low=tuple(low.tolist()),
        action_high=tuple(high.tolist()),
        discrete=num_actions is not None,
        name=name,
        **spec,
    )
    if not spec.fingerprint:
        spec = dataclasses.replace(spec, fingerprint=fingerprint(*rows[:5], episode, low, high))
    preprocessing = Preprocessing(
        observation_mean=jnp.zeros(observation.shape[1]),
        observation_std=jnp.ones(observation.shape[1]),
        reward_scale=jnp.ones(()),
        reward_bias=jnp.zeros(()),
    )
    # jnp.array copies in the background, and device_put may not copy at all: return only when
    # the caller's arrays are no longer needed.
    rows, episode = jax.block_until_ready(jax.tree.map(jnp.array, (rows, episode)))
    return Dataset(rows, episode, preprocessing, spec, discount)


def _check_names(name: str, given: Sequence[str], spec: Mapping[str, Any]) -> None:
    """Raises InputError unless all arrays that a dataset needs are given and nothing unknown is."""
    known = [field.name for field in dataclasses.fields(Spec)]
    for unknown in spec.keys() - set(known):
        hint = did_you_mean(unknown, [*FIELDS, *FIELDS.values(), "episode_end", *known])
        raise InputError(
            f"dataset {name} is given {unknown}, which a dataset does not have{hint} (it needs "
            f"{', '.join(REQUIRED)})"
        )
    for field in REQUIRED:
        if field not in given:
            raise InputError(f"dataset {name} has no {field}; it needs {', '.join(REQUIRED)}")
