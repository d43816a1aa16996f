"""One fixed goal for maze data that were recorded on the way to many."""

from collections.abc import Mapping

import numpy as np

from offrl_jax.types import InputError

GOAL_RADIUS = 0.45  # of gymnasium-robotics' mazes


def aim_at(
    columns: Mapping[str, np.ndarray], goal: np.ndarray, radius: float = GOAL_RADIUS
) -> dict[str, np.ndarray]:
    """The same steps as attempts at one goal: reward 1 and a true end where it is reached.

    What ended an episode before is a cut now. Steps that start at the goal are left out, and where
    they lay an episode is cut too.

    Args:
      columns: In D4RL's layout, with `next_observations`; an observation opens with x and y. Others
        with as many rows are kept.
      goal: (2,), x and y.
      radius: At which the goal is reached, in the same units.

    Raises:
      InputError: if no step reaches the goal, or there are no next observations.
    """
    if "next_observations" not in columns:
        raise InputError(
            "the data have no next_observations, without which the last step of an episode cannot "
            "be told to reach the goal; record them too"
        )
    inside, reached = (
        np.linalg.norm(np.asarray(columns[field])[:, :2] - goal, axis=1) <= radius
        for field in ("observations", "next_observations")
    )
    if not (reached & ~inside).any():
        raise InputError(
            f"none of the {len(reached)} steps reaches the goal at {np.asarray(goal).tolist()}; "
            "give another goal"
        )
    ended = np.asarray(columns["terminals"], bool) | np.append(inside[1:], True)
    if "timeouts" in columns:
        ended |= np.asarray(columns["timeouts"], bool)
    changed = {
        **columns,
        "rewards": reached.astype(np.float32),
        "terminals": reached,
        "timeouts": ended & ~reached,
    }
    return {field: np.asarray(column)[~inside] for field, column in changed.items()}
