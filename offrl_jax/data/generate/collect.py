"""Runs controllers in the PointMaze tasks: to record data, and to measure reference returns."""

import itertools
import json
from collections.abc import Callable

import numpy as np

from offrl_jax import environments
from offrl_jax.data.generate.mazes import Maze
from offrl_jax.data.generate.record import Act, record, record_episode
from offrl_jax.data.generate.waypoints import Controller, flail, seek, wander
from offrl_jax.data.recording import Recording

OBSERVATION_KEYS = ("observation", "desired_goal")


def make_task(maze: Maze):
    env_kwargs = maze.env_kwargs | {"disable_env_checker": True}
    return environments.make(maze.env_id, env_kwargs, max_episode_steps=maze.horizon)


def collect(
    maze: Maze,
    num_transitions: int,
    *,
    seed: int = 0,
    controller: Callable[[Maze, np.random.Generator], Controller] = wander,
) -> Recording:
    """Records a controller; the same arguments give the same numbers.

    Every episode is one whole episode of the evaluation environment, cut off by its time limit
    and by nothing else; the last one is cut where `num_transitions` are reached.

    Args:
      maze: The task.
      num_transitions: N, at least 1.
      seed: Of the environment and of the controller.
      controller: What acts in an episode; the wandering agent does not know the goal.
    """
    rng = np.random.default_rng(seed)
    env = make_task(maze)
    walks = (_acting(controller(maze, rng)) for _ in itertools.count())
    arrays = record(env, walks, num_transitions, seed=seed, observation_keys=OBSERVATION_KEYS)
    env.close()
    return Recording(
        arrays,
        {
            "env_id": maze.env_id,
            "env_kwargs": json.dumps(maze.env_kwargs),
            "max_episode_steps": maze.horizon,
            "observation_keys": OBSERVATION_KEYS,
            "action_low": (-1.0, -1.0),
            "action_high": (1.0, 1.0),
        },
    )


def reference_returns(maze: Maze, num_episodes: int = 100) -> tuple[float, float]:
    """Mean returns of random actions (score 0) and of walking to the goal to stay (score 100)."""
    rng = np.random.default_rng(0)
    return (
        _mean_return(maze, num_episodes, lambda: flail(rng)),
        _mean_return(maze, num_episodes, lambda: seek(maze)),
    )


def _mean_return(maze: Maze, num_episodes: int, controller: Callable[[], Controller]) -> float:
    env = make_task(maze)
    env.reset(seed=0)
    rows = {"reward": np.zeros(num_episodes * maze.horizon)}
    for episode in range(num_episodes):
        record_episode(env, _acting(controller()), rows, episode * maze.horizon, OBSERVATION_KEYS)
    env.close()
    return float(rows["reward"].sum() / num_episodes)


def _acting(controller: Controller) -> Act:
    """One episode of a controller, which takes the parts of the observation."""
    next(controller)

    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        state = observation["observation"]
        action = controller.send((state[:2], state[2:], observation["desired_goal"]))
        return action.astype(np.float32)

    return act
