"""Gymnasium environments, imported only where one is needed."""

import contextlib
import difflib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from offrl_jax.types import InputError, Spec

PACKAGES = ("gymnasium", "gymnasium-robotics", "mujoco")
OLD_GYM = ("GymV21Environment-v0", "GymV26Environment-v0")  # import what their arguments name


class SimulatorMissing(InputError):
    """A package that the environment needs is not installed."""


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Installed versions, None where a package is absent; by default of the simulators, on which
    an environment's description and its physics depend."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def make(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    *,
    max_episode_steps: int | None = None,
    entry_point: str | None = None,
):
    """Makes a registered environment, or one of no registered id by trusted code.

    Args:
      env_id: Registered, unless there is an entry point.
      env_kwargs: Arguments of the environment.
      max_episode_steps: Its time limit, if not the registered one.
      entry_point: As in `Spec.env_entry_point`; it is run where the id is not registered.

    `position_noise_range` reaches any maze: gymnasium-robotics' ant mazes hand it on to an ant that
    knows no such argument. It is a share of a cell, of the noise on start and goal.

    Raises:
      SimulatorMissing: if a package is missing.
      InputError: if the id is not registered (with the nearest id).
    """
    try:
        import gymnasium
    except ImportError as error:
        raise SimulatorMissing("environments need gymnasium; pip install gymnasium") from error
    missing = (ImportError, gymnasium.error.DependencyNotInstalled)
    with contextlib.suppress(*missing), _quiet():
        importlib.import_module("gymnasium_robotics")  # registers mazes, Adroit and Kitchen
    registered = gymnasium.registry.keys()
    if env_id in OLD_GYM:
        raise InputError(
            f"environment {env_id!r} would import whatever its arguments name; "
            "give env_id of a registered environment"
        )
    if env_id not in registered and not entry_point:
        if importlib.util.find_spec("gymnasium_robotics") is None:
            raise SimulatorMissing(
                f"environment {env_id!r} is not registered in gymnasium alone; "
                "pip install gymnasium-robotics"
            )
        near = difflib.get_close_matches(env_id, registered, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if entry_point == "":
            hint = (
                " and the data name code that would make it; give trust_dataset_env=True to run "
                "that code, or env_id of a registered environment"
            )
        raise InputError(f"environment {env_id!r} is not registered in gymnasium{hint}")
    kwargs = dict(env_kwargs)
    noise = kwargs.pop("position_noise_range", None)
    try:
        with _quiet():
            known = gymnasium.registry.get(env_id)
            if known is None:
                known = gymnasium.envs.registration.EnvSpec(env_id, entry_point)
            env = gymnasium.make(known, max_episode_steps=max_episode_steps, **kwargs)
            if noise is not None:
                if not hasattr(env.unwrapped, "position_noise_range") or not 0 <= noise <= 0.5:
                    raise ValueError("position_noise_range is for mazes and in [0, 0.5]")
                env.unwrapped.position_noise_range = float(noise)
            return env
    except missing as error:
        raise SimulatorMissing(f"{env_id} needs a package more: {error}") from error
    except Exception as error:  # whatever a constructor makes of arguments that data name
        raise InputError(
            f"environment {env_id} cannot be made with {env_kwargs} and "
            f"max_episode_steps={max_episode_steps} ({error}); correct the dataset's description"
        ) from error


@contextlib.contextmanager
def _quiet():
    """Keeps back advice on newer versions of environments: the data decide which one is meant.

    Only in the main thread, since the whole process has the same standard error and warnings.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def make_from_spec(spec: Spec, own: Callable[[], Any] | None = None):
    """The evaluation environment of a dataset, or the user's own for it.

    Raises:
      InputError: if the dataset names no environment and the user has none, or if it is none or
        disagrees with the data in shape.
    """
    if own is not None:
        env, name = own(), getattr(own, "__name__", "the environment")
        if not hasattr(env, "action_space"):
            raise InputError(f"{name} returned {env!r}; give a function that makes an environment")
    elif spec.env_id is None:
        raise InputError(
            f"dataset {spec.name} names no environment to evaluate in; give one as "
            "environment=…, or num_evaluation_episodes=0 to train without one"
        )
    else:
        name = spec.env_id
        env = make(
            name,
            json.loads(spec.env_kwargs),
            max_episode_steps=spec.max_episode_steps,
            entry_point=spec.env_entry_point,
        )
    try:
        _check_fit(env, name, spec)
        if own is None and env.spec.max_episode_steps is None:
            raise InputError(
                f"{name} has no time limit, so that its episodes need not end; "
                "give the dataset max_episode_steps"
            )
    except InputError:
        env.close()
        raise
    return env


def time_limit(spec: Spec) -> int | None:
    """Steps after which the dataset's environment times out, without making it; None where that is
    not known here, be it that the simulator is missing."""
    if spec.max_episode_steps is not None or spec.env_id is None:
        return spec.max_episode_steps
    try:
        import gymnasium
    except ImportError:
        return None
    with contextlib.suppress(ImportError), _quiet():
        importlib.import_module("gymnasium_robotics")
    known = gymnasium.registry.get(spec.env_id)
    return known and known.max_episode_steps


def _check_fit(env, name: str, spec: Spec) -> None:
    num_actions, action_size = described_actions(name, env.action_space)
    if (num_actions is not None) != spec.discrete:
        kinds = {True: "discrete", False: "continuous"}
        raise InputError(
            f"actions of dataset {spec.name} are {kinds[spec.discrete]} but those of {name} "
            f"{kinds[not spec.discrete]}; give the env_id that the data came from"
        )
    observation_size = flat_size(env.observation_space, spec.observation_keys)
    for what, in_env, in_data in (
        ("observations", observation_size, spec.observation_size),
        ("actions", num_actions or action_size, spec.action_size),
    ):
        if in_env != in_data:
            kind = "values" if what == "actions" and spec.discrete else "numbers"
            raise InputError(
                f"{what} of dataset {spec.name} have {in_data} {kind} but those of "
                f"{name} have {in_env}; give the env_id that the data came from"
            )


def described_actions(env_id: str, space) -> tuple[int | None, int]:
    """How many discrete actions there are, None for continuous ones, and an action's numbers.

    Raises:
      InputError: if they are neither an array nor the indices from 0 on.
    """
    if hasattr(space, "low") and space.low.dtype.kind == "f":
        return None, space.low.size
    if type(space).__name__ == "Discrete" and space.start == 0:
        return int(space.n), 1
    raise InputError(
        f"{env_id} has actions {space}; continuous ones or indices from 0 on can be learnt"
    )


def flat_size(space, keys: tuple[str, ...]) -> int:
    """Width of an observation flattened by `flatten_observation`.

    Raises:
      InputError: if the keys do not name arrays of the space.
    """
    entries = getattr(space, "spaces", None)
    parts = [space] if entries is None else [entries[k] for k in keys if k in entries]
    arrays = [part for part in parts if getattr(part, "shape", None)]
    if len(arrays) != max(1, len(keys)) or (entries is None and keys):
        have = (
            ", ".join(map(str, entries)) if entries is not None else f"one {type(space).__name__}"
        )
        raise InputError(
            f"observations made of {', '.join(keys) or 'a single array'} are wanted, but the "
            f"environment's are {have}; give observation_keys that name its arrays"
        )
    return sum(int(np.prod(part.shape)) for part in arrays)


def flatten_observation(observation, keys: tuple[str, ...]) -> np.ndarray:
    """Concatenates a Dict observation's entries in the given order (a Box has no keys)."""
    parts = [observation[k] for k in keys] if keys else [observation]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
