import json

import numpy as np
import pytest

from offrl_jax import data, environments
from offrl_jax.data import scores
from offrl_jax.data.generate.collect import collect, reference_returns
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.data.generate.waypoints import route, seek
from offrl_jax.types import InputError

UMAZE = MAZES["umaze"]


@pytest.fixture(scope="module")
def recording():
    return collect(UMAZE, 1000)


def test_same_arguments_same_numbers(recording):
    again = collect(UMAZE, 1000)
    fingerprint = recording.to_dataset("a").spec.fingerprint
    assert again.to_dataset("b", discount=0.9).spec.fingerprint == fingerprint
    other = collect(UMAZE, 1000, seed=1)
    assert other.to_dataset("a").spec.fingerprint != fingerprint


def test_episodes_are_whole_and_only_cut(recording):
    arrays = recording.arrays
    assert not arrays["terminal"].any()
    np.testing.assert_array_equal(np.flatnonzero(arrays["timeout"]), [299, 599, 899])
    dataset = recording.to_dataset("a")
    assert len(dataset) == 1000 and dataset.num_episodes == 4


def test_another_controller_may_act(recording):
    expert = collect(UMAZE, 300, controller=lambda maze, rng: seek(maze)).arrays
    assert expert["reward"].sum() > 2 * recording.arrays["reward"][:300].sum()
    assert expert["reward"][-50:].all()


def test_reward_is_one_near_the_observed_goal(recording):
    following = recording.arrays["next_observation"]
    near = np.linalg.norm(following[:, :2] - following[:, 4:], axis=1) <= 0.45
    np.testing.assert_array_equal(recording.arrays["reward"], near)


def test_steps_follow_one_another_within_an_episode(recording):
    inside = ~recording.arrays["timeout"][:-1]
    np.testing.assert_array_equal(
        recording.arrays["observation"][1:][inside],
        recording.arrays["next_observation"][:-1][inside],
    )


def test_goals_lie_in_the_goal_cell_and_starts_in_other_free_ones():
    starts, goals = set(), set()
    env = environments.make(UMAZE.env_id, UMAZE.env_kwargs, max_episode_steps=300)
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        starts.add(UMAZE.cell(observation["achieved_goal"]))
        goals.add(UMAZE.cell(observation["desired_goal"]))
    env.close()
    assert goals == {UMAZE.goal}
    assert starts == set(UMAZE.cells) - {UMAZE.goal}


def test_the_evaluation_environment_is_the_one_recorded(recording):
    spec = recording.to_dataset("a").spec
    env = environments.make_from_spec(spec)
    observation, _ = env.reset(seed=0)
    observation, _ = env.reset()
    first = environments.flatten_observation(observation, spec.observation_keys)
    np.testing.assert_array_equal(first, recording.arrays["observation"][0])
    assert env.spec.max_episode_steps == 300
    for action, reward in zip(
        recording.arrays["action"][:50], recording.arrays["reward"][:50], strict=True
    ):
        observation, found, *_ = env.step(action)
        assert found == reward
    env.close()
    np.testing.assert_array_equal(
        environments.flatten_observation(observation, spec.observation_keys),
        recording.arrays["next_observation"][49],
    )


@pytest.mark.parametrize(
    ("name", "registered"),
    [("umaze", "U_MAZE"), ("medium", "MEDIUM_MAZE"), ("large", "LARGE_MAZE")],
)
def test_layouts_are_the_registered_ones_with_a_goal(name, registered):
    from gymnasium_robotics.envs.maze import maps

    layout = np.array(MAZES[name].env_kwargs["maze_map"], object)
    assert (layout == "g").sum() == 1 and layout[MAZES[name].goal] == "g"
    layout[layout == "g"] = 0
    np.testing.assert_array_equal(layout, getattr(maps, registered))


@pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)
def test_routes_reach_every_cell_through_neighbours(maze):
    for start in maze.cells:
        assert maze.cell(maze.position(start)) == start
        path = [start, *route(maze, start, maze.goal)]
        assert path[-1] == maze.goal
        steps = np.abs(np.diff(path, axis=0)).sum(1)
        assert (steps == 1).all() and set(path) <= set(maze.cells)


def test_wandering_visits_the_whole_maze():
    positions = collect(UMAZE, 3000).arrays["observation"][:, :2]
    assert {UMAZE.cell(position) for position in positions} == set(UMAZE.cells)


def test_references_are_reproducible_in_kind():
    random, controller = reference_returns(UMAZE, num_episodes=5)
    assert 0 <= random < 60 < 150 < controller < 300
    assert scores.POINTMAZE["umaze"][0] < scores.POINTMAZE["umaze"][1]


def test_load_by_name(capsys):
    dataset = data.load_dataset("pointmaze/umaze-700")
    assert len(dataset) == 700
    assert "generating 700 transitions" in capsys.readouterr().err
    spec = dataset.spec
    assert spec.reference_scores == scores.POINTMAZE["umaze"]
    assert spec.reference_scores == scores.reference_scores(
        spec.env_id, json.loads(spec.env_kwargs)
    )
    assert data.load_dataset("pointmaze/umaze-700").spec == spec
    assert "generating" not in capsys.readouterr().err


def test_numbers_and_options_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="no transitions"):
        data.load_dataset("pointmaze/umaze-0")
    with pytest.raises(InputError, match="leave env_id"):
        data.load_dataset("pointmaze/umaze-10", env_id="Hopper-v5")
