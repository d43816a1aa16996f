"""Datasets that are generated on first use."""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from offrl_jax import environments
from offrl_jax.data import cache, scores
from offrl_jax.data.generate.collect import collect
from offrl_jax.data.generate.discrete import BEHAVIORS, TASKS, play
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.data.recording import Recording
from offrl_jax.types import InputError


class Generator(NamedTuple):
    """What makes a dataset of N transitions, always the same one."""

    collect: Callable[[int], Recording]
    num_transitions: int  # where the name gives none
    version: int  # raised whenever controllers, policies or tasks change
    packages: tuple[str, ...]  # on whose versions the numbers depend


GENERATORS = {
    f"pointmaze/{name}": Generator(partial(collect, maze), 100_000, 2, environments.PACKAGES)
    for name, maze in MAZES.items()
} | {
    f"{name}/{behavior}": Generator(
        partial(play, name, behavior), task.num_transitions, 1, task.packages
    )
    for name, task in TASKS.items()
    for behavior in BEHAVIORS
}
NAME = re.compile(rf"({'|'.join(GENERATORS)})(?:-(\d+))?")


def names() -> list[str]:
    return list(GENERATORS)


def matches(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def stamp(name: str) -> list:
    base, num_transitions = _parse(name)
    generator = GENERATORS[base]
    return [generator.version, base, num_transitions, environments.versions(generator.packages)]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Generates the dataset."""
    if env_id or observation_keys:
        raise InputError(
            f"{name} is generated in an environment and with observations of its own; "
            "leave env_id and observation_keys out"
        )
    base, num_transitions = _parse(name)
    print(
        f"generating {num_transitions} transitions of {name}, to be kept in "
        f"{cache.root() or 'memory only'}",
        file=sys.stderr,
    )
    recording = GENERATORS[base].collect(num_transitions)
    task = recording.fields["env_id"], json.loads(recording.fields["env_kwargs"])
    reference = {"reference_scores": scores.reference_scores(*task)}
    return recording._replace(fields=recording.fields | reference)


def _parse(name: str) -> tuple[str, int]:
    base, digits = NAME.fullmatch(name).groups()
    num_transitions = GENERATORS[base].num_transitions if digits is None else int(digits)
    if num_transitions < 1:
        raise InputError(f"{name} asks for no transitions; give a number from 1 on")
    return base, num_transitions
