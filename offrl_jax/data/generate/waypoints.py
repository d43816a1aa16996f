"""Controllers that walk a maze from waypoint to waypoint.

A controller is a generator: it is sent (position, velocity, desired goal) and yields an action.
"""

from collections import deque
from collections.abc import Generator

import numpy as np

from offrl_jax.data.generate.mazes import Cell, Maze

GAIN = 10.0  # action per metre of error
DAMPING = 1.0  # action per metre a second
REACHED = 0.1  # metres; the same at a destination, so that the data fill dead ends too
JITTER = 0.2  # intermediate waypoints are shifted by U(0, 0.2) along each axis
MAX_PAUSE = 60  # steps; without pauses the data never shows how to stay anywhere
NOISE = 0.5  # standard deviation of the wanderer's action noise

State = tuple[np.ndarray, np.ndarray, np.ndarray]
Controller = Generator[np.ndarray, State, None]


def route(maze: Maze, start: Cell, goal: Cell) -> list[Cell]:
    """Cells of a shortest path after `start`, up to and with `goal` (breadth-first search)."""
    free = set(maze.cells)
    successor = {goal: goal}
    frontier = deque([goal])
    while frontier:
        i, j = frontier.popleft()
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if cell in free and cell not in successor:
                successor[cell] = (i, j)
                frontier.append(cell)
    path = []
    while start != goal:
        start = successor[start]
        path.append(start)
    return path


def steer(position: np.ndarray, velocity: np.ndarray, waypoint: np.ndarray) -> np.ndarray:
    """a = 10 (w − x) − ẋ, not yet clipped."""
    return GAIN * (waypoint - position) - DAMPING * velocity


def wander(maze: Maze, rng: np.random.Generator) -> Controller:
    """Walks between uniformly random free cells, pausing at each, with noise, blind to the goal."""

    def noisy(position: np.ndarray, velocity: np.ndarray, waypoint: np.ndarray) -> np.ndarray:
        action = steer(position, velocity, waypoint) + rng.normal(0.0, NOISE, 2)
        return np.clip(action, -1.0, 1.0)

    position, velocity, _ = yield
    while True:
        destination = maze.cells[rng.integers(len(maze.cells))]
        path = route(maze, maze.cell(position), destination)
        waypoints = [maze.position(cell) for cell in path]
        for waypoint in waypoints[:-1]:
            waypoint += rng.uniform(0.0, JITTER, 2)
        for waypoint in waypoints:
            while _far(position, waypoint):
                position, velocity, _ = yield noisy(position, velocity, waypoint)
        for _ in range(rng.integers(MAX_PAUSE + 1)):
            position, velocity, _ = yield noisy(position, velocity, maze.position(destination))


def seek(maze: Maze) -> Controller:
    """Walks to the desired goal without noise and stays there."""
    position, velocity, goal = yield
    for cell in route(maze, maze.cell(position), maze.cell(goal))[:-1]:
        waypoint = maze.position(cell)
        while _far(position, waypoint):
            action = np.clip(steer(position, velocity, waypoint), -1.0, 1.0)
            position, velocity, goal = yield action
    while True:
        action = np.clip(steer(position, velocity, goal), -1.0, 1.0)
        position, velocity, goal = yield action


def flail(rng: np.random.Generator) -> Controller:
    """Uniformly random actions."""
    yield
    while True:
        yield rng.uniform(-1.0, 1.0, 2)


def _far(position: np.ndarray, waypoint: np.ndarray) -> bool:
    dx, dy = waypoint - position
    return dx * dx + dy * dy > REACHED * REACHED
