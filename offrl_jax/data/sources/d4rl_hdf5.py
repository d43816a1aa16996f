"""HDF5 files in D4RL's layout."""

import json
import math
from typing import Any

from offrl_jax import environments
from offrl_jax.data import cache
from offrl_jax.data.recording import Recording
from offrl_jax.data.sources import columns, hdf5, paths
from offrl_jax.types import InputError


def matches(name: str) -> bool:
    return name.endswith((".hdf5", ".h5"))


def stamp(name: str) -> list:
    return [cache.stamp(paths.existing(name)), environments.versions()]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Reads the needed arrays; attributes may name the environment (`env_id`, its arguments as
    JSON in `env_kwargs`, `max_episode_steps`), reference returns and, where actions are indices,
    `num_actions`."""
    with hdf5.opened(str(paths.existing(name))) as file:
        keys = list(file)
        columns.check_keys(name, keys)
        fields = [*columns.REQUIRED, *(field for field in columns.OPTIONAL if field in keys)]
        arrays = hdf5.arrays(name, file, fields)
        attributes = attributes_of(file)
    reference = recorded_reference(attributes.get("ref_min_score"), attributes.get("ref_max_score"))
    task = {}
    if env_id:
        reference = None  # it belongs to the environment that the file names
    else:
        env_id = attributes.get("env_id")
        task = task_of(name, attributes)
    if not isinstance(env_id, str | None):
        raise InputError(f"attribute env_id of {name} is {env_id!r}; give env_id instead")
    return columns.record(
        name,
        arrays,
        env_id=env_id,
        observation_keys=observation_keys,
        reference=reference,
        task=task,
        num_actions=attributes.get("num_actions"),
    )


def attributes_of(file: Any) -> dict[str, Any]:
    """The file's attributes, text as text."""
    return {key: _text(value) for key, value in file.attrs.items()}


def task_of(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Arguments and time limit of the file's environment, where it gives them.

    Raises:
      InputError: if they are not as `read` says.
    """
    task = {}
    try:
        if "env_kwargs" in attributes:
            task["env_kwargs"] = json.loads(attributes["env_kwargs"])
            if not isinstance(task["env_kwargs"], dict):
                raise ValueError("env_kwargs is no object")
        if "max_episode_steps" in attributes:
            task["max_episode_steps"] = limit = int(attributes["max_episode_steps"])
            if limit < 1 or limit != attributes["max_episode_steps"]:
                raise ValueError(f"max_episode_steps is {attributes['max_episode_steps']}")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f"attributes env_kwargs and max_episode_steps of {name} cannot be used ({error}); the "
            "first must be a JSON object, the second a positive integer"
        ) from error
    return task


def recorded_reference(low: Any, high: Any) -> tuple[float, float] | None:
    """Reference returns that a file gives, if they are two numbers that can scale a score."""
    try:
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        return None
    return (low, high) if -math.inf < low < high < math.inf else None


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
