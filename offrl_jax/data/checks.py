"""What is asked of arrays before anything is learnt from them."""

import logging
from typing import Any

import numpy as np

from offrl_jax.data.streaming import memory
from offrl_jax.types import InputError


def numbers(name: str, field: str, array: np.ndarray, ndim: int) -> np.ndarray:
    """The array in float32; a single column is a row where one number each is wanted.

    Raises:
      InputError: if it holds anything but numbers or is of another rank.
    """
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise InputError(
            f"{field} of dataset {name} is no array ({error}); give rows of one width"
        ) from error
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{field} of dataset {name} holds {array.dtype} values; only numbers can be learnt from"
        )
    if ndim == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != ndim or 0 in array.shape[1:]:
        raise InputError(
            f"{field} of dataset {name} has shape {array.shape}; "
            f"it needs {'(transitions, width)' if ndim == 2 else '(transitions,)'}"
            + (
                ", or num_actions where actions are indices"
                if (field, ndim) == ("action", 2)
                else ""
            )
        )
    with np.errstate(all="ignore"):  # what float32 cannot hold is not finite either
        return np.asarray(array, np.float32)


def episodes(end: np.ndarray) -> np.ndarray:
    """Index of each transition's episode, counted from 0, of where episodes end, (N,) each."""
    return np.cumsum(end, dtype=np.int32) - end


def never(bad: np.ndarray, what: str, episode: np.ndarray, remedy: str) -> None:
    """Raises InputError with the number and the first of the transitions that are bad, (N, ...)."""
    rows = np.flatnonzero(bad.any(tuple(range(1, bad.ndim))))
    if len(rows):
        raise InputError(
            f"{what} in {len(rows)} of {len(bad)} transitions, first at transition {rows[0]} "
            f"(episode {episode[rows[0]]}); {remedy}"
        )


def bounds(name: str, low: Any, high: Any, action_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Action bounds, numbers or as many as an action has, as two arrays (A,).

    Raises:
      InputError: if they are something else.
    """
    with np.errstate(over="ignore"):
        try:
            given = [np.asarray(bound, np.float32) for bound in (low, high)]
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the action bounds of dataset {name} are no numbers ({error}); give some"
            ) from error
    if any(bound.shape not in ((), (action_size,)) for bound in given):
        raise InputError(
            f"the action bounds of dataset {name} have shapes {given[0].shape} and "
            f"{given[1].shape}; give numbers, or {action_size} of them each"
        )
    return tuple(np.broadcast_to(bound, action_size) for bound in given)


def to_one_hot(
    name: str, action: np.ndarray, num_actions: int | np.integer, episode: np.ndarray
) -> np.ndarray:
    """One-hot rows (N, A) of the indices (N,) of discrete actions.

    Raises:
      InputError: if there are fewer than two actions or more than memory holds, or an index is out
        of range.
    """
    if not isinstance(num_actions, int | np.integer) or num_actions < 2:
        raise InputError(
            f"dataset {name} has num_actions={num_actions!r}; give how many discrete actions there "
            "are, a whole number from 2 on"
        )
    bad = (action < 0) | (action >= num_actions) | (action != np.floor(action))
    what = f"action of dataset {name} is not one of the indices 0 to {num_actions - 1}"
    never(bad, what, episode, "correct that episode or num_actions")
    memory.check(name, {"one-hot actions": 4 * len(action) * int(num_actions)})
    rows = np.zeros((len(action), num_actions), np.float32)
    rows[np.arange(len(action)), action.astype(int)] = 1
    return rows


def to_unit(
    name: str,
    action: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    episode: np.ndarray,
    clip: bool,
) -> np.ndarray:
    """Rescales actions from [low, high] to [−1, 1].

    Raises:
      InputError: if the bounds are not finite and in order, or an action lies outside them and
        `clip` is off.
    """
    with np.errstate(all="ignore"):
        spread = high - low
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise InputError(
            f"the action bounds of dataset {name} are {low} to {high}; they must be finite, "
            "low below high"
        )
    slack = 1e-4 * spread  # float32 rounding of recorded actions
    outside = ((action < low - slack) | (action > high + slack)).any(1)
    if not clip:
        what = f"action of dataset {name} leaves its bounds"
        never(outside, what, episode, "clip them with clip_actions=True or correct the bounds")
    elif outside.any():
        logging.warning(
            "actions of dataset %s are clipped to their bounds in %d of %d transitions",
            name,
            outside.sum(),
            len(action),
        )
    return np.clip(2.0 * (action - low) / spread - 1.0, -1.0, 1.0).astype(np.float32)
