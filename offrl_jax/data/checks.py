"""What is asked of arrays before anything is learnt from them."""

import logging

import numpy as np

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
      InputError: if the bounds are none, or an action leaves them that is not to be clipped.
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
        never(outside, what, episode, "clip them with --clip_actions or correct the bounds")
    elif outside.any():
        logging.warning(
            "actions of dataset %s are clipped to their bounds in %d of %d transitions",
            *(name, outside.sum(), len(action)),
        )
    return np.clip(2.0 * (action - low) / spread - 1.0, -1.0, 1.0).astype(np.float32)
