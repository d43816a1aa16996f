"""Worlds with traps, as pure functions: a point and a car that look for a goal.

Entering a trap is an accident: it costs 1 and ends the episode, and so does reaching the goal,
without a cost. The reward is the progress towards the goal, less a little each step, and 1 at the
goal; it does not mention traps. Everything takes one world; `vmap` makes many.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, InputError, Int, Key, Spec

STEP = 0.1  # seconds
STEP_REWARD = -0.01
GOAL_REWARD = 1.0
SIGHT = 3.0  # of a trap's edge at distance d the agent sees exp(−3 d)


class World(NamedTuple):
    """A moment in a world.

    Attributes:
      pose: x, y and, of the point, its velocity; of the car, its heading and its speed.
      time: Steps since the start.
    """

    pose: Float[Array, "4"]
    time: Int[Array, ""]


class Step(NamedTuple):
    """What follows an action.

    Attributes:
      world: The moment after it.
      reward: Progress, see above.
      cost: 1 in a trap, else 0.
      terminal: 1 in a trap or at the goal.
      truncation: 1 where time is up and nothing of that happened.
    """

    world: World
    reward: Float[Array, ""]
    cost: Float[Array, ""]
    terminal: Float[Array, ""]
    truncation: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class TrapTask:
    """A world's layout. Hashable: part of the jit key.

    Attributes:
      name: Of the task.
      body: "point" or "car".
      traps: x, y and radius of each.
      goal: x, y and radius.
      start: Lower x, upper x, lower y, upper y of where episodes start.
      noise: Standard deviation of what each step adds to the velocity, or to heading and speed.
      max_episode_steps: The time limit.
    """

    name: str
    body: str
    traps: tuple[tuple[float, float, float], ...]
    goal: tuple[float, float, float]
    start: tuple[float, float, float, float]
    noise: float
    max_episode_steps: int

    @property
    def spec(self) -> Spec:
        """Sizes and bounds: see `observe`; two actions in [−1, 1]."""
        size = 7 + 2 * len(self.traps)
        return Spec(size, 2, (-1.0, -1.0), (1.0, 1.0), name=self.name)


TASKS = {
    "point": TrapTask(
        name="point",
        body="point",
        traps=(
            (-0.35, 0.0, 0.18),
            (-0.35, 0.62, 0.18),
            (-0.35, -0.62, 0.18),
            (0.25, 0.32, 0.18),
            (0.25, -0.32, 0.18),
        ),
        goal=(0.85, 0.0, 0.12),
        start=(-0.95, -0.7, -0.5, 0.5),
        noise=0.05,
        max_episode_steps=60,
    ),
    "car": TrapTask(
        name="car",
        body="car",
        traps=(
            (-0.3, 0.12, 0.2),
            (-0.3, -0.75, 0.2),
            (0.25, -0.35, 0.2),
            (0.25, 0.6, 0.2),
        ),
        goal=(0.85, 0.0, 0.15),
        start=(-0.95, -0.75, -0.4, 0.4),
        noise=0.05,
        max_episode_steps=80,
    ),
}


def find_task(name: str) -> TrapTask:
    """The task of that name.

    Raises:
      InputError: if there is no such task.
    """
    if name not in TASKS:
        raise InputError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def reset(task: TrapTask, key: Key) -> World:
    """A start, at rest; the car looks to the right, more or less."""
    place_key, heading_key = jax.random.split(key)
    low_x, high_x, low_y, high_y = task.start
    unit = jax.random.uniform(place_key, (2,))
    place = jnp.array([low_x, low_y]) + unit * jnp.array([high_x - low_x, high_y - low_y])
    heading = jax.random.uniform(heading_key, (), minval=-0.5, maxval=0.5)
    rest = jnp.stack([heading * (task.body == "car"), jnp.zeros(())])
    return World(jnp.concatenate([place, rest]), jnp.int32(0))


def scattered(task: TrapTask, key: Key) -> World:
    """Anywhere outside traps, moving at random: where the first, random rows start from."""
    place_key, motion_key = jax.random.split(key)
    places = jax.random.uniform(place_key, (32, 2), minval=-1.0, maxval=1.0)
    is_free = jax.vmap(lambda place: jnp.all(edge_distances(task, place) > 0.0))(places)
    unit = jax.random.uniform(motion_key, (2,), minval=-1.0, maxval=1.0)
    motion = unit if task.body == "point" else unit * jnp.array([jnp.pi, 1.0])
    return World(jnp.concatenate([places[jnp.argmax(is_free)], motion]), jnp.int32(0))


def step(task: TrapTask, world: World, action: Float[Array, "2"], key: Key) -> Step:
    """One step of an action in [−1, 1]², clipped to it.

    The point: v ← v + h (2 a − 2 v) + noise. The car (a bicycle of length 0.15): its speed
    v ← v + h (2 a₁ − 2 v) within [−0.3, 1], its heading ← heading + h v tan(0.6 a₂) / 0.15, each
    with noise. Both then move by h v; the square [−1, 1]² has walls, at which the point stops.
    """
    action = jnp.clip(action, -1.0, 1.0)
    noise = task.noise * jax.random.normal(key, (2,))
    place, motion = world.pose[:2], world.pose[2:]
    if task.body == "point":
        motion = motion + STEP * (2.0 * action - 2.0 * motion) + noise
        velocity = motion
    else:
        speed = motion[1] + STEP * (2.0 * action[0] - 2.0 * motion[1]) + noise[0]
        speed = jnp.clip(speed, -0.3, 1.0)
        heading = motion[0] + STEP * speed * jnp.tan(0.6 * action[1]) / 0.15 + noise[1] * STEP
        motion = jnp.stack([heading, speed])
        velocity = speed * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    moved = jnp.clip(place + STEP * velocity, -1.0, 1.0)
    if task.body == "point":
        motion = jnp.where(jnp.abs(moved) < 1.0, motion, 0.0)
    after = World(jnp.concatenate([moved, motion]), world.time + 1)
    cost = jnp.any(edge_distances(task, moved) <= 0.0).astype(jnp.float32)
    at_goal = (_distance(task, moved) <= task.goal[2]) * (1.0 - cost)
    progress = _distance(task, place) - _distance(task, moved)
    terminal = jnp.maximum(cost, at_goal)
    truncation = (after.time >= task.max_episode_steps) * (1.0 - terminal)
    reward = progress + STEP_REWARD + GOAL_REWARD * at_goal
    return Step(after, reward, cost, terminal, truncation)


def observe(task: TrapTask, world: World) -> Float[Array, "O"]:
    """Place (2); velocity and 0, or cosine and sine of the heading and the speed (3); the way to
    the goal (2); of each trap its direction times exp(−3 d), d being its edge's distance (2). The
    car sees directions as from its seat."""
    place, motion = world.pose[:2], world.pose[2:]
    goal, traps = jnp.array(task.goal[:2]), jnp.array(task.traps)[:, :2]
    ways = jnp.concatenate([goal[None], traps]) - place[None]
    if task.body == "car":
        cosine, sine = jnp.cos(motion[0]), jnp.sin(motion[0])
        ways = ways @ jnp.stack([cosine, -sine, sine, cosine]).reshape(2, 2)
        motion = jnp.stack([cosine, sine, motion[1]])
    else:
        motion = jnp.concatenate([motion, jnp.zeros(1)])
    seen = ways[1:] / jnp.maximum(jnp.linalg.norm(ways[1:], axis=1, keepdims=True), 1e-6)
    seen = seen * jnp.exp(-SIGHT * edge_distances(task, place))[:, None]
    return jnp.concatenate([place, motion, ways[0], seen.ravel()])


def edge_distances(task: TrapTask, place: Float[Array, "2"]) -> Float[Array, "traps"]:
    """From the place to each trap's edge, negative inside."""
    traps = jnp.array(task.traps)
    return jnp.linalg.norm(traps[:, :2] - place[None], axis=1) - traps[:, 2]


def _distance(task: TrapTask, place: Float[Array, "2"]) -> Float[Array, ""]:
    return jnp.linalg.norm(jnp.array(task.goal[:2]) - place)
