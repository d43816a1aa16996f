"""PointMaze data, generated on first use."""

import re
import sys

from offrl_jax import environments
from offrl_jax.data import cache, scores
from offrl_jax.data.generate.collect import collect
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.data.recording import Recording
from offrl_jax.types import InputError

NUM_TRANSITIONS = 100_000
GENERATOR = 2  # raised whenever the controller or the tasks change
NAME = re.compile(rf"pointmaze/({'|'.join(MAZES)})(?:-(\d+))?")


def names() -> list[str]:
    return [f"pointmaze/{maze}" for maze in MAZES]


def matches(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def stamp(name: str) -> list:
    return [GENERATOR, *_parse(name), environments.versions()]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Generates the dataset, always the same one."""
    if env_id or observation_keys:
        raise InputError(
            f"{name} is generated in an environment and with observations of its own; "
            "leave env_id and observation_keys out"
        )
    maze, num_transitions = _parse(name)
    print(
        f"generating {num_transitions} transitions of {name}, to be kept in "
        f"{cache.root() or 'memory only'}",
        file=sys.stderr,
    )
    recording = collect(MAZES[maze], num_transitions)
    reference = {"reference_scores": scores.POINTMAZE[maze]}
    return recording._replace(fields=recording.fields | reference)


def _parse(name: str) -> tuple[str, int]:
    maze, digits = NAME.fullmatch(name).groups()
    num_transitions = NUM_TRANSITIONS if digits is None else int(digits)
    if num_transitions < 1:
        raise InputError(f"{name} asks for no transitions; give a number from 1 on")
    return maze, num_transitions
