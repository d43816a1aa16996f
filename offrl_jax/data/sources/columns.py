"""The layout that D4RL's HDF5 and OGBench's npz files share: one flat array a field."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from offrl_jax import environments
from offrl_jax.data import scores
from offrl_jax.data.arrays import by_field
from offrl_jax.data.recording import Recording
from offrl_jax.types import InputError

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "masks")
KEY_ORDERS = (
    ("observation",),
    ("achieved_goal", "observation"),
    ("observation", "desired_goal"),
    ("achieved_goal", "observation", "desired_goal"),
)


def check_keys(name: str, keys: list[str]) -> None:
    """Raises InputError where a field that learning needs is not among the file's keys."""
    for key in REQUIRED:
        if key not in keys:
            raise InputError(
                f"{name} has no {key!r}: it holds {', '.join(keys) or 'nothing'}, but needs "
                f"{', '.join(REQUIRED)}"
            )


def record(
    name: str,
    columns: Mapping[str, np.ndarray],
    *,
    env_id: str | None,
    observation_keys: tuple[str, ...],
    reference: tuple[float, float] | None = None,
    task: Mapping[str, Any] | None = None,
    num_actions: Any = None,
) -> Recording:
    """Names a file's columns as `dataset_from_arrays` does and describes their environment.

    Args:
      name: For messages.
      columns: By the file's keys.
      env_id: The environment to evaluate in.
      observation_keys: The user's choice, or none.
      reference: Returns that score 0 and 100, if the file gives them.
      task: `env_kwargs` and `max_episode_steps` of the environment, where the file gives them.
      num_actions: Of discrete actions, where the file gives it; otherwise the environment's.
    """
    task = task or {}
    arrays = by_field(name, columns)
    fields: dict[str, Any] = {"observation_keys": observation_keys}
    if num_actions is not None:
        fields["num_actions"] = _whole(name, num_actions)
    if env_id is not None:
        env_kwargs = {**scores.family(env_id).needs, **task.get("env_kwargs", {})}
        fields |= {
            "env_id": env_id,
            "env_kwargs": json.dumps(env_kwargs),
            "max_episode_steps": task.get("max_episode_steps"),
            "reference_scores": reference or scores.reference_scores(env_id, env_kwargs),
        }
        widths = [math.prod(columns[key].shape[1:]) for key in ("observations", "actions")]
        in_file = fields.get("num_actions")
        fields |= _described(name, env_id, env_kwargs, *widths, observation_keys, in_file)
    elif reference:
        fields["reference_scores"] = reference
    return Recording(arrays, fields)


def _described(
    name: str,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    observation_size: int,
    action_size: int,
    observation_keys: tuple[str, ...],
    in_file: int | None,
) -> dict[str, Any]:
    """Action bounds, or number of discrete actions, and observation keys of the environment, if its
    simulator is installed; where it is not, nothing."""
    try:
        env = environments.make(env_id, env_kwargs)
    except environments.SimulatorMissing as error:
        assumed = "to lie in [-1, 1]" if in_file is None else f"to be {in_file} discrete ones"
        logging.warning("actions of %s are taken %s: %s", name, assumed, error)
        return {}
    observations, actions = env.observation_space, env.action_space
    env.close()
    num_actions, in_env = environments.described_actions(env_id, actions)
    if in_env != action_size:
        raise InputError(
            f"actions of {name} have {action_size} numbers but those of {env_id} have {in_env}; "
            "give the env_id that the data came from"
        )
    if in_file not in (None, num_actions):
        raise InputError(
            f"num_actions of {name} is {in_file} but {env_id} has "
            f"{'continuous actions' if num_actions is None else num_actions}; correct one of them"
        )
    keys = _matching_keys(name, env_id, observations, observation_size, observation_keys)
    if num_actions is not None:
        return {"num_actions": num_actions, "observation_keys": keys}
    return {
        "action_low": tuple(actions.low.ravel().tolist()),
        "action_high": tuple(actions.high.ravel().tolist()),
        "observation_keys": keys,
    }


def _whole(name: str, num_actions: Any) -> int:
    """A number as files hold it, an array of one among them."""
    array = np.asarray(num_actions)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"num_actions of {name} is {num_actions!r}; it must be how many discrete actions "
            "there are"
        )
    return int(array.item())


def _matching_keys(
    name: str, env_id: str, space, observation_size: int, chosen: tuple[str, ...]
) -> tuple[str, ...]:
    """The first order of entries as wide as the data; a Box has no entries."""
    entries = getattr(space, "spaces", {})
    if absent := [key for key in chosen if key not in entries]:
        raise InputError(
            f"observations of {env_id} have no entry {absent[0]!r}; they have "
            f"{', '.join(entries) or 'none, being one array'}"
        )
    orders = (chosen,) if chosen else KEY_ORDERS if entries else ((),)
    sizes = {
        order: environments.flat_size(space, order)
        for order in orders
        if all(getattr(entries.get(key), "shape", None) for key in order)
    }
    for order, size in sizes.items():
        if size == observation_size:
            return order
    found = ", ".join(f"{size} ({' + '.join(keys) or 'all'})" for keys, size in sizes.items())
    raise InputError(
        f"observations of {name} have {observation_size} numbers but those of {env_id} have "
        f"{found or 'no arrays'}; give the env_id that the data came from"
    )
