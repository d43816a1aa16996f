"""Splits a grid into jobs: settings that differ only in floats train together."""

import dataclasses
import functools
import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from offrl_jax import environments, learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.api import prepare
from offrl_jax.api.prepare import Environment
from offrl_jax.api.run import SETTINGS
from offrl_jax.config import grid as combinations
from offrl_jax.config import validate
from offrl_jax.data import Data
from offrl_jax.networks.serialization import settings_to_json, to_json
from offrl_jax.networks.text import with_modules
from offrl_jax.networks.values import Networks, networks_of
from offrl_jax.presets.preset import Preset
from offrl_jax.reports.study import short_name
from offrl_jax.reports.sweep import shown_value
from offrl_jax.reports.wording import plural
from offrl_jax.runs import train as training
from offrl_jax.runs.schedule import check
from offrl_jax.types import InputError, did_you_mean

OF_ONE_RUN = {"allow_config_change", "keep_every", "keep_last", "log", "num_steps", "stop"}
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(training.train).parameters.items()
    if name in SETTINGS - OF_ONE_RUN
}
ONE_AFTER_ANOTHER = ("discount",)  # floats that the preparation of the data depends on
LONG = 120  # maximum number of characters in a run's name


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings that train together.

    Attributes:
      dataset: Name of the dataset.
      configs: Configs that differ only in floats.
      values: For each config, its values in the grid.
      names: For each config, the name of its run.
    """

    dataset: str
    configs: list[Any]
    values: list[dict[str, Any]]
    names: list[str]

    def __str__(self) -> str:
        """The dataset, and the values that all of its settings share."""
        first, *others = self.values
        fixed = {k: v for k, v in first.items() if all(values[k] == v for values in others)}
        return ", ".join([self.dataset, *(f"{k}={shown_value(v)}" for k, v in fixed.items())])


class Plan:
    """The jobs of a sweep. Datasets are loaded when the jobs are first used.

    Attributes:
      algorithm: The algorithm to train.
      axes: The grid: values by field of the config, in the order of the fields.
      floats: Fields whose values train together.
      num_together: Maximum number of settings in a job.
      options: Arguments of `runs.train.train` that all jobs share.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        names: Sequence[str],
        load: Callable[[str], Data],
        *,
        grid: Mapping[str, Sequence[Any]],
        config: Any = None,
        preset: str | Preset = "auto",
        recipe: str | Sequence[str] = (),
        environment: Environment = None,
        best_fraction: float = 1.0,
        runs_per_job: int | None = None,
        **settings: Any,
    ):
        """Checks the grid.

        Args:
          algorithm: The algorithm to train.
          names: Names of the datasets.
          load: Returns the dataset of a name.
          grid: As for `sweep`, like all further arguments.

        Raises:
          InputError: if the grid or a setting is not usable.
        """
        changes = prepare.take_preset_fields("sweep", settings, DEFAULTS)
        self.algorithm, self._names, self._load = algorithm, names, load
        self._config, self._changes, self._best_fraction = config, changes, best_fraction
        self._preset, self._recipe, self._runs_per_job = preset, recipe, runs_per_job
        self.options = DEFAULTS | settings
        self._make_env = prepare.maker(environment)
        self.axes = checked_grid(algorithm, grid, config)
        if not self.axes and len(names) == 1:
            raise InputError(
                "there is nothing to sweep: give values for a setting, such as "
                f'grid["{dataclasses.fields(algorithm.Config)[0].name}"]=…, or several datasets'
            )
        types = {field.name: field.type for field in dataclasses.fields(algorithm.Config)}
        self.floats = [
            name for name in self.axes if types[name] is float and name not in ONE_AFTER_ANOTHER
        ]
        self.num_together = self._num_together()
        self.prepared = functools.lru_cache(maxsize=1)(self._prepared)  # such jobs are consecutive

    @functools.cached_property
    def jobs(self) -> list[Job]:
        return list(self._jobs())

    @functools.cached_property
    def networks(self) -> Networks:
        """The network classes of all jobs by name."""
        return networks_of(*(job.configs[0] for job in self.jobs))

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the results, for `sweep.json`.

        Raises:
          InputError: if a job cannot be run.
        """
        options = self.options
        settings = {
            "algorithm": self.algorithm.name,
            "grid": {name: [to_json(x) for x in values] for name, values in self.axes.items()},
            **{name: options[name] for name in ("num_seeds", "seed", "num_evaluations")},
            "num_evaluation_episodes": options["num_evaluation_episodes"],
            "divergence_limit": options["divergence_limit"],
            "fail_on_divergence": options["fail_on_divergence"],
        }
        if self._runs_per_job is not None:
            settings["runs_per_job"] = self._runs_per_job
        if options["matmul_precision"] != "default":
            settings["matmul_precision"] = options["matmul_precision"]
        settings["datasets"] = {}
        for job in self.jobs:
            dataset, preset = self.prepared(job.dataset)
            self._check(job, dataset, preset)
            settings["datasets"][job.dataset] = {
                "dataset": dataset.spec.to_json(),
                "config": {
                    name: value
                    for name, value in settings_to_json(job.configs[0]).items()
                    if name not in self.axes
                },
                **prepare.record(preset, self._best_fraction),
            }
        return settings

    def arguments(self, job: Job) -> dict[str, Any]:
        """Arguments of `runs.train.train`, except directories and callbacks."""
        dataset, preset = self.prepared(job.dataset)
        return self.options | {
            "algorithm": self.algorithm,
            "config": job.configs,
            "dataset": dataset,
            "num_steps": preset.num_steps,
            "make_env": self._make_env,
            "record": prepare.record(preset, self._best_fraction),
        }

    def __str__(self) -> str:
        at_most = "at most " if len(self.jobs[-1].configs) < self.num_together else ""
        return (
            f"{self.algorithm.name}: {plural(len(self.jobs), 'job')} of {at_most}"
            f"{plural(self.num_together, 'setting')} × {plural(self.options['num_seeds'], 'seed')}"
        )

    def _num_together(self) -> int:
        num_settings = math.prod(len(self.axes[name]) for name in self.floats)
        num_seeds = self.options["num_seeds"]
        if num_seeds < 1:
            raise InputError(f"num_seeds={num_seeds}; give at least one")
        if self._runs_per_job is None:
            return num_settings
        if self._runs_per_job < num_seeds:
            raise InputError(
                f"runs_per_job={self._runs_per_job} is less than num_seeds={num_seeds}, but the "
                f"seeds of a setting train in one job; give runs_per_job={num_seeds} or more, or "
                "fewer seeds"
            )
        return min(num_settings, self._runs_per_job // num_seeds)

    def _prepared(self, name: str) -> tuple[Data, Preset]:
        """The preprocessed dataset of that name, and the preset that was applied to it."""
        dataset = self._load(name)
        preset = prepare.choose_preset(
            self.algorithm, dataset, self._preset, self._recipe, self._changes
        )
        return prepare.learnable(dataset, preset, self._best_fraction), preset

    def _jobs(self) -> Iterator[Job]:
        static = [name for name in self.axes if name not in self.floats]
        labels = _labels(self._names)
        for dataset in self._names:
            _, preset = self.prepared(dataset)
            base = prepare.make_config(self.algorithm, preset, self._config)
            for values in itertools.product(*(self.axes[name] for name in static)):
                chosen = dict(zip(static, values, strict=True))
                changes = with_modules(self.algorithm.Config, chosen, vars(base))
                config = dataclasses.replace(base, **changes)
                configs = combinations(config, **{name: self.axes[name] for name in self.floats})
                for start in range(0, len(configs), self.num_together):
                    own = configs[start : start + self.num_together]
                    found = [
                        {name: chosen.get(name, getattr(c, name)) for name in self.axes}
                        for c in own
                    ]
                    yield Job(dataset, own, found, [_name(labels[dataset], v) for v in found])

    def _check(self, job: Job, dataset: Data, preset: Preset) -> None:
        check(
            self.algorithm,
            job.configs,
            dataset,
            num_steps=preset.num_steps,
            num_evaluations=self.options["num_evaluations"],
            num_seeds=self.options["num_seeds"],
            seed=self.options["seed"],
            seed_batch=self.options["seed_batch"],
        )
        init = functools.partial(learner.init, self.algorithm, job.configs[0], dataset.spec)
        jax.eval_shape(init, jax.random.key(0))
        if self.options["num_evaluation_episodes"]:
            environments.make_from_spec(dataset.spec, self._make_env).close()


def checked_grid(
    algorithm: Algorithm, grid: Mapping[str, Sequence[Any]], config: Any
) -> dict[str, tuple]:
    """The values to try by field, in the order of the config's fields.

    Raises:
      InputError: if a field does not exist or is also in the config, or a value is missing, of
        another type, out of range or given twice.
    """
    if not isinstance(grid, Mapping):
        raise InputError(
            f"grid is a {type(grid).__name__}; give a dictionary of settings and the values to try"
        )
    fields = {field.name: field for field in dataclasses.fields(algorithm.Config)}
    for name, values in grid.items():
        if name not in fields:
            raise InputError(
                f"{algorithm.name} has no setting {name!r} to sweep"
                f"{did_you_mean(str(name), fields)} (it has {', '.join(fields)})"
            )
        if isinstance(config, Mapping) and name in config:
            raise InputError(f'both grid["{name}"] and config["{name}"] are given; leave one out')
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise InputError(f'grid["{name}"] is {values!r}, a single value; give a list of values')
    axes = {
        name: tuple(prepare.plain(field, value) for value in grid[name])
        for name, field in fields.items()
        if name in grid
    }
    for name, values in axes.items():
        if not values:
            raise InputError(f'grid["{name}"] is empty; give at least one value, or leave it out')
        configs = [
            algorithm.Config(**with_modules(algorithm.Config, {name: value}, {}))
            for value in values
        ]
        for config in configs:
            validate(config)
        networks_of(*configs)
        own = [getattr(config, name) for config in configs]
        alike = [np.float32(value) if isinstance(value, float) else value for value in own]
        if twice := [v for i, v in enumerate(values) if alike[i] in alike[:i]]:
            raise InputError(
                f'grid["{name}"]: {shown_value(twice[0])} is given twice; give each value once'
            )
    return axes


def _labels(names: Sequence[str]) -> dict[str, str]:
    """For each dataset, its label in the names of runs."""
    found: dict[str, str] = {}
    for name in names:
        label = short_name(name).replace("/", "-")
        others = (f"{label}-{i}" for i in itertools.count(2))
        found[name] = next(x for x in itertools.chain([label], others) if x not in found.values())
    return found


def _name(dataset: str, values: dict[str, Any]) -> str:
    name = ",".join([dataset, *(f"{name}={shown_value(v)}" for name, v in values.items())])
    name = name.replace("/", "-")  # a string field of a network may contain one
    if len(name.encode()) <= LONG:
        return name
    return f"{name[: LONG // 2]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
