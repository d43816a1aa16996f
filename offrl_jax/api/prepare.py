"""Looks up what a user names: algorithm, dataset, preset, config."""

import dataclasses
import json
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from offrl_jax import data
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data import Data, scores
from offrl_jax.networks.serialization import settings_to_json
from offrl_jax.networks.text import with_modules
from offrl_jax.presets.preset import DOMAINS, Preset, find_preset, prepared
from offrl_jax.types import InputError, did_you_mean

Environment = str | Callable[[], Any] | None
WHOLE = {  # settings
    "num_steps",
    "num_seeds",
    "seed",
    "seed_batch",
    "num_evaluations",
    "num_evaluation_episodes",
    "keep_last",
    "keep_every",
    "host_memory_mb",
}
PRESET_FIELDS = tuple(field.name for field in dataclasses.fields(Preset) if field.name != "config")


def find_algorithm(algorithm: str | Algorithm) -> Algorithm:
    """The algorithm of that name, or the user's own.

    Raises:
      InputError: if no algorithm has that name.
    """
    return algorithm if isinstance(algorithm, Algorithm) else ALGORITHMS[algorithm]


def take_preset_fields(
    function: str, settings: dict[str, Any], known: Iterable[str]
) -> dict[str, Any]:
    """Takes the fields of `Preset` out of a function's settings, with NumPy's integers as Python's.

    Raises:
      InputError: if a setting is neither one of them nor known, or should be a whole number.
    """
    known = sorted({*known, *PRESET_FIELDS})
    for name, value in settings.items():
        if name not in known:
            raise InputError(
                f"{function} has no setting {name!r}{did_you_mean(name, known)} (it has "
                f"{', '.join(known)})"
            )
        if name in WHOLE and value is not None:
            try:
                settings[name] = operator.index(value)
            except TypeError as error:
                raise InputError(f"{name}={value!r}; give a whole number") from error
    return {name: settings.pop(name, None) for name in PRESET_FIELDS}


def find_dataset(source: Data | str | os.PathLike, environment: Environment = None) -> Data:
    """The dataset, loaded if a name or path is given, with the environment of that id, if any.

    Raises:
      InputError: as `load_dataset`, or if it is of another type.
    """
    env_id = environment if isinstance(environment, str) else None
    if not isinstance(source, Data | str | os.PathLike):
        raise InputError(
            f"data is of type {type(source).__name__}; give a dataset, as load_dataset and "
            "dataset_from_arrays make one, or its name or path"
        )
    if not isinstance(source, Data):
        return data.load_dataset(source, env_id=env_id)
    if env_id is None:
        return source
    return dataclasses.replace(source, spec=in_environment(source.spec, env_id))


def maker(environment: Environment) -> Callable[[], Any] | None:
    """The function that makes the environment; None where an id or nothing is given.

    Raises:
      InputError: if it is of another type.
    """
    if environment is None or isinstance(environment, str):
        return None
    if not callable(environment):
        raise InputError(
            f"environment is of type {type(environment).__name__}; give a registered id, or a "
            "function that makes an environment"
        )
    return environment


def in_environment(spec: Any, env_id: str) -> Any:
    """The spec with another environment and that environment's reference scores."""
    if env_id == spec.env_id:
        return spec
    env_kwargs = dict(scores.family(env_id).needs)
    return dataclasses.replace(
        spec,
        env_id=env_id,
        env_kwargs=json.dumps(env_kwargs),
        max_episode_steps=None,
        reference_scores=scores.reference_scores(env_id, env_kwargs),
        env_entry_point=None,
    )


def choose_preset(
    algorithm: Algorithm,
    dataset: Data,
    preset: str | Preset = "auto",
    recipe: str | Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Preset:
    """The preset, changed by the named recipes and then by the given fields.

    Args:
      algorithm: The algorithm that the preset is for.
      dataset: Determines the domain if the preset is "auto".
      preset: "auto", "none", one of `DOMAINS`, or a preset itself.
      recipe: A name or several, in order.
      changes: Fields of `Preset`; None leaves a field as it is.

    Raises:
      InputError: if there is no such preset or recipe, or a recipe beside a preset itself.
    """
    changes = {name: value for name, value in (changes or {}).items() if value is not None}
    if isinstance(preset, Preset):
        if recipe:
            raise InputError("recipe is given beside a Preset; put its settings into that")
        return dataclasses.replace(preset, **changes)
    known = "auto", "none", *DOMAINS
    if preset not in known:
        raise InputError(
            f"there is no preset {preset!r}{did_you_mean(str(preset), known)} (there are "
            f"{', '.join(known)})"
        )
    domain = scores.domain(dataset.spec) if preset == "auto" else preset
    recipes = (recipe,) if isinstance(recipe, str) else recipe
    return dataclasses.replace(find_preset(algorithm.name, domain, recipes), **changes)


def make_config(algorithm: Algorithm, preset: Preset, config: Any = None) -> Any:
    """The given config, or the preset's config with the fields of a dictionary replaced. The
    dictionary may give networks as text or hidden sizes.

    Raises:
      InputError: if it is another algorithm's, or has no such field.
    """
    if isinstance(config, algorithm.Config):
        return config
    if not isinstance(config, Mapping | None):
        raise InputError(
            f"config is a {type(config).__name__}; {algorithm.name} takes a "
            f"{algorithm.Config.__name__} or a dictionary of its fields"
        )
    fields = {field.name: field for field in dataclasses.fields(algorithm.Config)}
    values = {**preset.config, **(config or {})}
    for name in values:
        if name not in fields:
            raise InputError(
                f"{algorithm.name} has no setting {name!r}{did_you_mean(name, fields)} (it has "
                f"{', '.join(fields)})"
            )
    values = {name: plain(fields[name], value) for name, value in values.items()}
    return algorithm.Config(**with_modules(algorithm.Config, values, preset.config))


def plain(field: dataclasses.Field, value: Any) -> Any:
    """A value as the config holds it: arrays and lists as Python's numbers and tuples."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return tuple(value)
    return float(value) if field.type is float and type(value) is int else value


def learnable(dataset: Data, preset: Preset, best_fraction: float = 1.0) -> Data:
    """The best episodes, transformed as the preset says."""
    if best_fraction != 1:
        dataset = data.keep_best_episodes(dataset, best_fraction)
    return prepared(dataset, preset)


def record(preset: Preset, best_fraction: float = 1.0) -> dict[str, Any]:
    """The preparation of the data, as a run's settings record it."""
    return {"preset": settings_to_json(preset), "best_fraction": best_fraction}
