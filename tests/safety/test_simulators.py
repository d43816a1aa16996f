"""Gymnasium's side: our worlds as its environments, and a simulator's falls as accidents."""

import dataclasses
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from offrl_jax.safety import simulators, worlds
from offrl_jax.safety.rendering import BODY, GOAL, TRAP, rendered
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import InputError
from tests.safety.test_safe_learning import TINY


@pytest.mark.parametrize("name", worlds.TASKS)
def test_a_world_is_a_gymnasium_environment(name):
    env = simulators.gymnasium_world(name, render_mode="rgb_array")
    first, info = env.reset(seed=3)
    assert env.observation_space.contains(first) and info == {"cost": 0.0, "success": False}
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    x, y, radius = worlds.TASKS[name].traps[0]
    env.world = env.world._replace(pose=jnp.array([x - radius / 2, y, 0.0, 0.0]))
    seen, reward, terminal, truncation, info = env.step(np.zeros(2, np.float32))
    assert env.observation_space.contains(seen) and isinstance(reward, float)
    assert (terminal, truncation, info) == (True, False, {"cost": 1.0, "success": False})
    assert env.render().shape == (200, 200, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that observations are unbounded, and no id was given
        check_env(env)


def test_a_picture_shows_traps_goal_and_agent_where_they_are():
    task = worlds.TASKS["car"]
    world = worlds.World(jnp.array([-0.9, 0.9, np.pi, 0.0]), jnp.int32(0))
    picture = rendered(task, world, size=100)

    def at(x, y):
        return picture[round((1 - y) * 50 - 0.5), round((1 + x) * 50 - 0.5)]

    np.testing.assert_array_equal(at(*task.goal[:2]), GOAL)
    for x, y, _ in task.traps:
        np.testing.assert_array_equal(at(x, y), TRAP)
    np.testing.assert_array_equal(at(-0.88, 0.9), BODY)  # its nose is on the other side


@pytest.mark.slow
def test_falling_is_the_accident_of_a_simulator():
    pytest.importorskip("mujoco")
    config = SafetyConfig(**TINY | {"num_world_steps": 30})
    envs = simulators.HostWorlds("Hopper-v5", 2)
    rows = dataclasses.replace(config, num_random_transitions=79)  # of either copy 40
    state, before = simulators.start_on_host(rows, envs, jax.random.key(0))
    assert int(state.replay.num_added) == 80
    assert before["episodes/accidents"] == state.replay.rows.cost[:80].sum() > 0
    rollout = envs.collect(config, state, jax.random.key(1))
    assert (rollout.is_first[0] == 1).all()
    np.testing.assert_allclose(rollout.episode_return[0], rollout.reward[0], rtol=1e-6)
    assert rollout.observation.shape == (30, 2, 11) and rollout.cost.sum() > 0
    np.testing.assert_array_equal(rollout.cost, rollout.terminal)
    going_on = np.asarray(rollout.end[:-1] == 0)
    np.testing.assert_array_equal(
        rollout.observation[1:][going_on], rollout.next_observation[:-1][going_on]
    )
    fallen = np.asarray(rollout.cost[:-1] == 1)
    assert (rollout.next_observation[:-1][fallen] != rollout.observation[1:][fallen]).any(-1).all()
    np.testing.assert_array_equal(rollout.is_first[1:], rollout.end[:-1])
    state, metrics = simulators.train_on_host(
        config, envs, state, jax.random.key(2), num_iterations=1
    )
    assert int(state.step) == 1 and metrics[0]["episodes/accidents"] > 0
    assert all(np.isfinite(x) for x in metrics[0].values())
    envs.close()


def test_what_cannot_be_collected_is_said():
    with pytest.raises(InputError, match="no bounded, flat actions"):
        simulators.HostWorlds("CartPole-v1", 2)
    with pytest.raises(InputError, match="no task 'boat'"):
        simulators.gymnasium_world("boat")
    with pytest.raises(InputError, match="render_mode='human' is unknown"):
        simulators.gymnasium_world("car", render_mode="human")
    env = simulators.gymnasium_world("car", render_mode="rgb_array")
    for function in (env.render, lambda: env.step(np.zeros(2, np.float32))):
        with pytest.raises(InputError, match="call reset first"):
            function()


class Pictures(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class ManyHands(Pictures):
    observation_space = gymnasium.spaces.Box(0, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2, 2), np.float32)


@pytest.mark.parametrize("kind", [Pictures, ManyHands])
def test_what_is_not_flat_is_refused(kind):
    gymnasium.register("NotFlat-v0", kind)
    try:
        with pytest.raises(InputError, match="no flat observations or no bounded, flat actions"):
            simulators.HostWorlds("NotFlat-v0", 2)
    finally:
        del gymnasium.registry["NotFlat-v0"]
