"""The worlds: accidents, goals, time-outs, and that they are hard but not too hard."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.safety import worlds
from offrl_jax.safety.worlds import TASKS, World
from offrl_jax.types import InputError

STILL = {name: dataclasses.replace(task, noise=0.0) for name, task in TASKS.items()}
KEY = jax.random.key(0)
both = pytest.mark.parametrize("task", STILL.values(), ids=STILL)


def at(x, y, *motion, time=0):
    return World(jnp.array([x, y, *(motion or (0.0, 0.0))]), jnp.int32(time))


@both
def test_a_trap_costs_and_ends_and_pays_nothing(task):
    x, y, radius = task.traps[0]
    inside = worlds.step(task, at(x - radius + 0.01, y), jnp.zeros(2), KEY)
    assert (float(inside.cost), float(inside.terminal), float(inside.truncation)) == (1, 1, 0)
    assert float(inside.reward) == pytest.approx(worlds.STEP_REWARD, abs=1e-6)
    outside = worlds.step(task, at(x - radius - 0.01, y), jnp.zeros(2), KEY)
    assert float(outside.cost) == float(outside.terminal) == 0


@both
def test_the_goal_ends_without_a_cost(task):
    x, y, radius = task.goal
    there = worlds.step(task, at(x - radius + 0.01, y), jnp.zeros(2), KEY)
    assert (float(there.cost), float(there.terminal)) == (0, 1)
    assert float(there.reward) == pytest.approx(1 + worlds.STEP_REWARD, abs=1e-6)


@both
def test_time_is_up_only_where_nothing_else_happened(task):
    last = task.max_episode_steps - 1
    late = worlds.step(task, at(-0.9, 0.0, time=last), jnp.zeros(2), KEY)
    assert (float(late.truncation), float(late.terminal)) == (1, 0)
    trapped = worlds.step(task, at(*task.traps[0][:2], time=last), jnp.zeros(2), KEY)
    assert (float(trapped.truncation), float(trapped.terminal)) == (0, 1)


def test_the_point_accelerates_and_stops_at_walls():
    task = STILL["point"]
    after = worlds.step(task, at(-0.8, 0.9), jnp.array([1.0, 5.0]), KEY)  # clipped to 1
    np.testing.assert_allclose(after.world.pose, [-0.78, 0.92, 0.2, 0.2], rtol=1e-5)
    wall = worlds.step(task, at(-0.8, 0.99, 0.0, 1.0), jnp.array([0.0, 1.0]), KEY)
    np.testing.assert_allclose(wall.world.pose, [-0.8, 1.0, 0.0, 0.0], atol=1e-6)


def test_the_car_turns_only_while_it_moves():
    task = STILL["car"]
    rest = worlds.step(task, at(-0.8, 0.0, 0.3, 0.0), jnp.array([0.0, 1.0]), KEY)
    np.testing.assert_allclose(rest.world.pose, [-0.8, 0.0, 0.3, 0.0], atol=1e-6)
    moving = worlds.step(task, at(-0.8, 0.0, 0.0, 0.5), jnp.array([0.5, 1.0]), KEY)
    speed = 0.5
    heading = 0.1 * speed * np.tan(0.6) / 0.15
    place = [-0.8 + 0.1 * speed * np.cos(heading), 0.1 * speed * np.sin(heading)]
    np.testing.assert_allclose(moving.world.pose, [*place, heading, speed], rtol=1e-5)


@both
def test_observations_have_the_width_of_the_spec_and_show_the_traps(task):
    observation = worlds.observe(task, worlds.reset(task, KEY))
    assert observation.shape == (task.spec.observation_size,)
    x, y, radius = task.traps[1]
    near = worlds.observe(task, at(x - radius, y))  # at its edge, which is straight ahead
    np.testing.assert_allclose(near[9:11], [1, 0], atol=1e-5)


def test_the_car_sees_from_its_seat():
    task = STILL["car"]
    gx, gy, _ = task.goal
    up = worlds.observe(task, at(gx, gy - 0.5, np.pi / 2, 0.0))
    np.testing.assert_allclose(up[5:7], [0.5, 0], atol=1e-6)  # the goal lies ahead
    left = worlds.observe(task, at(gx - 0.5, gy, np.pi / 2, 0.0))
    np.testing.assert_allclose(left[5:7], [0, -0.5], atol=1e-6)  # and to its right


@both
def test_starts_are_in_their_box_and_free_of_traps(task):
    start = jax.vmap(partial(worlds.reset, task))(jax.random.split(KEY, 200))
    low_x, high_x, low_y, high_y = task.start
    x, y = start.pose[:, 0], start.pose[:, 1]
    assert (low_x <= x).all() and (x <= high_x).all()
    assert (low_y <= y).all() and (y <= high_y).all()
    edges = jax.vmap(partial(worlds.edge_distances, task))(start.pose[:, :2])
    assert edges.min() > 0.1


def test_an_unknown_task_is_named():
    with pytest.raises(InputError, match="no task 'boat'; there are point, car"):
        worlds.find_task("boat")
