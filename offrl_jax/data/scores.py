"""Reference returns: what scores 0 and what scores 100."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.types import Spec

# Mean undiscounted returns (random policy, expert) of each D4RL task family.
# Source: Farama-Foundation/D4RL, d4rl/infos.py at 89141a689b0353b0dac3da5cba60da4b1b16254d.
D4RL = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "antmaze": (0.0, 1.0),
    "door": (-56.512833, 2880.5693087298737),
    "hammer": (-274.856578, 12794.134825156867),
    "pen": (96.262799, 3076.8331017826877),
    "relocate": (-6.425911, 4233.877797728884),
    "kitchen": (0.0, 4.0),
}


class Family(NamedTuple):
    """Environments that share a kind of task."""

    env_id: str  # regular expression
    domain: str
    scores: str | None  # key of D4RL
    needs: Mapping[str, Any] = {}  # keyword arguments without which D4RL's returns do not apply


FAMILIES = (
    Family(r"Hopper-v\d+", "gym", "hopper"),
    Family(r"HalfCheetah-v\d+", "gym", "halfcheetah"),
    Family(r"Walker2d-v\d+", "gym", "walker2d"),
    Family(r"Ant-v\d+", "gym", "ant"),
    # D4RL ends an episode at the goal; a continuing one collects 1 a step there.
    Family(r"AntMaze_\w+-v\d+", "antmaze", "antmaze", {"continuing_task": False}),
    Family(r"AdroitHandDoor(Dense)?-v\d+", "adroit", "door"),
    Family(r"AdroitHandHammer(Dense)?-v\d+", "adroit", "hammer"),
    Family(r"AdroitHandPen(Dense)?-v\d+", "adroit", "pen"),
    Family(r"AdroitHandRelocate(Dense)?-v\d+", "adroit", "relocate"),
    Family(r"FrankaKitchen-v\d+", "kitchen", "kitchen"),
    Family(r"PointMaze_\w+-v\d+", "pointmaze", None),  # not D4RL's maze2d: another task
)
UNKNOWN = Family(".*", "other", None)

# Mean returns over 100 episodes of each maze's task, environment seeds from 0 on: uniformly random
# actions, and the noise-free controller that walks to the goal and stays (`reference_returns` of
# `generate/collect.py`,
# gymnasium-robotics 1.4.2, mujoco 3.11.0).
POINTMAZE = {
    "umaze": (9.68, 209.94),
    "medium": (9.18, 412.35),
    "large": (4.72, 527.4),
}

# Mean returns over 100 episodes, environment seeds from 0 on, of uniformly random actions
# (`mean_return` of `generate/discrete.py`, gymnasium 1.4.0), and Gymnasium's reward thresholds:
# what its registry calls solved, but for CartPole the most there is.
DISCRETE = {
    "CartPole-v1": (23.68, 500.0),
    "LunarLander-v3": (-191.96, 200.0),
    "Acrobot-v1": (-497.08, -100.0),
}

CAVEATS = {
    "AdroitHandDoor-v1": (
        "AdroitHandDoor-v1 rewards the distance from palm to handle (+0.1 a metre) where D4RL "
        "penalises it (-0.1), so its returns are not comparable with published ones."
    ),
    "AdroitHandPen-v1": (
        "AdroitHandPen-v1 continues after the pen is dropped where D4RL terminates, so its returns "
        "are not comparable with published ones."
    ),
}


def family(env_id: str | None) -> Family:
    return next((f for f in FAMILIES if re.fullmatch(f.env_id, env_id or "")), UNKNOWN)


def domain(spec: Spec) -> str:
    """One of pointmaze, gym, antmaze, adroit, kitchen, discrete, other."""
    return "discrete" if spec.discrete else family(spec.env_id).domain


def reference_scores(
    env_id: str | None, env_kwargs: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Returns that score 0 and 100 in an environment, where they are known."""
    for name, maze in MAZES.items():
        if (env_id, env_kwargs) == (maze.env_id, maze.env_kwargs):
            return POINTMAZE[name]
    if env_id in DISCRETE and not env_kwargs:
        return DISCRETE[env_id]
    known = family(env_id)
    applies = known.needs.items() <= env_kwargs.items() if known.needs else True
    return D4RL[known.scores] if known.scores and applies else None


def normalized_score(
    returns: float | np.ndarray, reference: tuple[float, float]
) -> float | np.ndarray:
    """100 · (return − min) / (max − min)."""
    low, high = reference
    return 100.0 * (returns - low) / (high - low)
