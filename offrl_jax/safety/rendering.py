"""Pictures of a world as arrays, in NumPy alone."""

from collections.abc import Sequence

import numpy as np

from offrl_jax.safety.worlds import TrapTask, World

GROUND, TRAP, GOAL, BODY, NOSE = (
    np.array(c, np.uint8)
    for c in ((246, 244, 240), (206, 80, 70), (96, 160, 96), (40, 60, 110), (240, 190, 60))
)
BODY_RADIUS = 0.05


def rendered(task: TrapTask, world: World, size: int = 200) -> np.ndarray:
    """A world from above, (size, size, 3) bytes: traps red, the goal green, the agent blue with a
    yellow nose that points where it moves, or where a car is heading."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, -axis)  # the first row is the top

    def disc(place: Sequence[float] | np.ndarray, radius: float) -> np.ndarray:
        return np.hypot(x - place[0], y - place[1]) <= radius

    picture = np.broadcast_to(GROUND, (size, size, 3)).copy()
    picture[disc(task.goal[:2], task.goal[2])] = GOAL
    for *place, radius in task.traps:
        picture[disc(place, radius)] = TRAP
    pose = np.asarray(world.pose)
    if task.body == "car":
        ahead = np.array([np.cos(pose[2]), np.sin(pose[2])])
    else:
        ahead = pose[2:] / max(np.linalg.norm(pose[2:]), 1e-9)
    picture[disc(pose[:2], BODY_RADIUS)] = BODY
    picture[disc(pose[:2] + BODY_RADIUS * ahead, BODY_RADIUS / 2)] = NOSE
    return picture
