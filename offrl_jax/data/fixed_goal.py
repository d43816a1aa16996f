"""One fixed goal for maze data that were recorded on the way to many."""

from collections.abc import Mapping

import numpy as np

from offrl_jax.types import InputError

GOAL_RADIUS = 0.45  # of gymnasium-robotics' mazes
FIELDS = {  # rank
    "observations": 2,
    "next_observations": 2,
    "actions": 2,
    "rewards": 1,
    "terminals": 1,
    "timeouts": 1,
}


def aim_at(
    columns: Mapping[str, np.ndarray], goal: np.ndarray, radius: float = GOAL_RADIUS
) -> dict[str, np.ndarray]:
    """The same steps as attempts at one goal: reward 1 and a true end where it is reached.

    What ended an episode before is a cut now. Steps that start at the goal are left out, and where
    they lay an episode is cut too.

    Args:
      columns: In D4RL's layout, with `next_observations`; an observation opens with x and y.
      goal: (2,), x and y.
      radius: At which the goal is reached, in the same units.

    Raises:
      InputError: if no step reaches the goal, or a column is missing or of another shape.
    """
    given = [field for field in FIELDS if field in columns or field != "timeouts"]
    columns = {field: _checked(field, columns) for field in given}
    if len({len(column) for column in columns.values()}) > 1:
        rows = ", ".join(f"{field} {len(column)}" for field, column in columns.items())
        raise InputError(f"the columns have different numbers of rows ({rows}); repair the file")
    inside, reached = (
        np.linalg.norm(columns[field][:, :2] - goal, axis=1) <= radius
        for field in ("observations", "next_observations")
    )
    if not (reached & ~inside).any():
        raise InputError(
            f"none of the {len(reached)} steps reaches the goal at {np.asarray(goal).tolist()}; "
            "give another goal"
        )
    ended = columns["terminals"].astype(bool) | np.append(inside[1:], True)
    if "timeouts" in columns:
        ended |= columns["timeouts"].astype(bool)
    changed = {
        **columns,
        "rewards": reached.astype(np.float32),
        "terminals": reached,
        "timeouts": ended & ~reached,
    }
    return {field: column[~inside] for field, column in changed.items()}


def _checked(field: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    if field not in columns:
        raise InputError(f"the data have no {field}, which goals need; record them too")
    column = np.asarray(columns[field])
    if FIELDS[field] == 1 and column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    narrow = field.endswith("observations") and column.shape[-1:] < (2,)
    if column.dtype.kind not in "fiub" or column.ndim != FIELDS[field] or narrow:
        raise InputError(
            f"{field} has shape {column.shape} and type {column.dtype}; it needs "
            f"{'a row of numbers' if FIELDS[field] == 2 else 'a number'} a transition, "
            "observations opening with x and y"
        )
    return column
