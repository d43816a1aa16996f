"""Grid worlds from text."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Bool, InputError, Int, Scalar

ACTIONS = ("up", "right", "down", "left")
_MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])


class GridWorld(NamedTuple):
    """An MDP and where its states are.

    Attributes:
      mdp: Its actions are `ACTIONS`: up, right, down, left.
      cell: Row and column of each state, from the upper left corner.
      goal: Whether a state is a goal.
      trap: Whether a state is a trap; as numbers, what entering a failure costs.
      index: The state of each cell, −1 in walls.
    """

    mdp: MDP
    cell: Int[np.ndarray, "S 2"]
    goal: Bool[Array, "S"]
    trap: Bool[Array, "S"]
    index: Int[np.ndarray, "rows columns"]

    def on_map(self, values) -> np.ndarray:
        """One number a state (S,) as a picture (rows, columns), NaN in walls."""
        return np.where(self.index < 0, np.nan, np.asarray(values)[self.index])


def grid_world(
    text: str,
    *,
    discount: Scalar,
    slip: float = 0.0,
    goal_reward: float = 1.0,
    trap_reward: float = -1.0,
    step_reward: float = 0.0,
) -> GridWorld:
    """A grid world drawn as text: `#` wall, `.` free, `S` start, `G` goal, `X` trap.

    With probability `slip` a move goes to one of the two sides of its direction, each with half of
    it. A move into a wall, or out of the map, stays. In a goal or a trap every action has that
    cell's reward and ends the episode, so that Q = V = the reward there; elsewhere the reward is
    `step_reward`. Episodes begin in the cells marked S with equal probability.

    Source: Russell and Norvig, Artificial Intelligence: A Modern Approach, section 17.1.

    Raises:
      InputError: If the map is ragged, has no start or other letters, or slip is out of [0, 1].
    """
    rows = [line.strip() for line in text.split("\n") if line.strip()]
    letters = set("".join(rows))
    if not letters <= set("#.SGX"):
        raise InputError(f"the map has {sorted(letters - set('#.SGX'))}; use only # . S G X")
    if len({len(row) for row in rows}) != 1 or "S" not in letters:
        raise InputError("the map is ragged or has no S; give rows of equal length and a start")
    if not 0 <= slip <= 1:
        raise InputError(f"slip is {slip}; give a probability")
    grid = np.array([list(row) for row in rows])
    cell = np.argwhere(grid != "#")
    index = np.full(grid.shape, -1)
    index[tuple(cell.T)] = np.arange(len(cell))

    edge = np.pad(index, 1, constant_values=-1)
    there = cell[:, None] + _MOVES + 1
    moved = edge[there[..., 0], there[..., 1]]  # (S, 4)
    moved = np.where(moved < 0, np.arange(len(cell))[:, None], moved)
    straight = np.eye(len(cell))[moved]  # (S, 4, S)
    aside = (np.roll(straight, 1, axis=1) + np.roll(straight, -1, axis=1)) / 2
    letter = grid[tuple(cell.T)]
    goal, trap, start = letter == "G", letter == "X", letter == "S"
    reward = np.select([goal, trap], [goal_reward, trap_reward], step_reward)
    mdp = MDP(
        transition=jnp.asarray((1 - slip) * straight + slip * aside, float),
        reward=jnp.asarray(np.repeat(reward[:, None], 4, axis=1), float),
        terminal=jnp.asarray(np.repeat((goal | trap)[:, None], 4, axis=1), float),
        initial=jnp.asarray(start / start.sum(), float),
        discount=jnp.asarray(discount, float),
    )
    return GridWorld(mdp, cell, jnp.asarray(goal), jnp.asarray(trap), index)
