"""Every statistic of the dataset card on data whose answer is known."""

import dataclasses
import json

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data import card as cards
from offrl_jax.data.card import card


def made(reward=None, end=(4, 9), terminal=(4,), n=10, **changes):
    """Two episodes of five steps: the first ends truly, the second is cut or timed out."""
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(n + 1, 3))
    arrays = {
        "observation": walk[:-1],
        "action": rng.uniform(-0.9, 0.9, (n, 2)),
        "reward": np.arange(n) if reward is None else reward,
        "terminal": np.isin(np.arange(n), terminal),
        "timeout": np.isin(np.arange(n), end) & ~np.isin(np.arange(n), terminal),
        "next_observation": walk[1:],
        "env_id": "Hopper-v5",
    } | changes
    return data.dataset_from_arrays(**arrays)


def assert_warned(found, words):
    assert any(words in warning for warning in found["warnings"]), found["warnings"]


def test_it_is_of_json_types_and_says_where_the_data_come_from():
    dataset = made(name="tiny", env_kwargs='{"a": 1}')
    found = card(dataset)
    assert json.loads(json.dumps(found)) == found
    assert found["name"] == "tiny" and found["fingerprint"] == dataset.spec.fingerprint
    assert found["environment"] == {"id": "Hopper-v5", "kwargs": {"a": 1}, "time_limit": None}
    assert found["transitions"] == 10


def test_how_episodes_end():
    ends = card(made())["episodes"]
    assert (ends["number"], ends["terminal"], ends["truncated"]) == (2, 1, 1)
    timed_out = card(made(), time_limit=5)["episodes"]
    assert (timed_out["timed_out"], timed_out["cut"]) == (1, 0)
    cut = card(made(), time_limit=7)["episodes"]
    assert (cut["timed_out"], cut["cut"]) == (0, 1)
    longer = card(made(), time_limit=3)
    assert (longer["episodes"]["timed_out"], longer["episodes"]["cut"]) == (0, 1)
    assert_warned(longer, "last up to 5 steps but the environment times out after 3")
    # without next observations a time-out loses its last step
    shortened = card(made(next_observation=None), time_limit=5)["episodes"]
    assert shortened["lengths"]["min"] == 4 and shortened["timed_out"] == 1


def test_returns_scores_and_rewards_are_those_recorded_whatever_was_done_to_them():
    dataset = made(reference_scores=(0.0, 20.0))  # returns 0+…+4 and 5+…+9
    transformed = data.transform_rewards(data.normalize_observations(dataset), scale=2.0, bias=-1.0)
    for found in map(card, (dataset, transformed)):
        assert found["returns"]["min"] == pytest.approx(10)
        assert found["returns"]["25%"] == pytest.approx(16.25)  # 10 + (35 − 10) / 4
        assert found["returns"]["std"] == pytest.approx(12.5)
        assert found["scores"]["mean"] == pytest.approx(112.5)
        assert found["rewards"]["mean"] == pytest.approx(4.5)
        assert found["rewards"]["zero"] == 0.1
    raw = np.asarray(dataset.transitions.observation)
    after = card(transformed)
    np.testing.assert_allclose(after["observations"]["mean"], raw.mean(0), atol=1e-6)
    np.testing.assert_allclose(after["observations"]["max"], raw.max(0), atol=1e-6)
    assert card(made())["scores"] is None


def test_sparse_rewards():
    rewards = card(made(reward=np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, -2.0])))["rewards"]
    assert rewards["zero"] == rewards["share_of_most_frequent"] == 0.8
    assert (rewards["most_frequent"], rewards["distinct"]) == (0.0, 3)
    shifted = card(made(reward=np.array([-1, -1, -1, -1, 0.0] * 2)))["rewards"]
    assert (shifted["zero"], shifted["most_frequent"]) == (0.2, -1.0)
    assert_warned(card(made(reward=np.full(10, 3.0))), "every reward is 3")


def test_actions_are_in_the_environments_bounds():
    action = np.array([[0.0, 5.0], [4.0, 5.0]] * 5)  # of [0, 4] and [0, 10]
    found = card(made(action=action, action_low=0.0, action_high=np.array([4, 10])))
    actions = found["actions"]
    assert actions["mean"] == pytest.approx([2, 5]) and actions["std"] == pytest.approx([2, 0])
    assert (actions["min"], actions["max"]) == ([0, 5], [4, 5])
    assert (actions["low"], actions["high"]) == ([0, 0], [4, 10])
    assert actions["saturated"] == 0.5 and actions["saturated_by_feature"] == [1, 0]
    first, second = found["histograms"]["action"]
    assert first["counts"][0] == first["counts"][-1] == 5 and sum(second["counts"]) == 10
    assert_warned(found, "50% of action entries are at their bounds")
    assert_warned(found, "1 of 2 numbers of the actions never vary (columns 1)")


def test_observations_that_never_vary():
    observation = np.random.default_rng(0).normal(size=(10, 4))
    observation[:, [1, 3]] = 7.0
    found = card(made(observation=observation, next_observation=None))
    assert found["coverage"]["varying_features"] == 2
    assert_warned(found, "2 of 4 numbers of the observations never vary (columns 1, 3)")
    nothing = card(made(observation=np.ones((10, 2)), next_observation=None))
    assert nothing["coverage"] == {
        "varying_features": 0,
        "effective_dimension": 0.0,
        "cells": 1,
        "effective_cells": 1.0,
    }
    assert nothing["map"] is None


def test_effective_dimension_counts_independent_directions():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    assert cards.effective_dimension(corners) == pytest.approx(3)
    assert cards.effective_dimension(corners[:, [0, 0, 0]]) == pytest.approx(1)
    assert cards.effective_dimension(corners * [1, 1, 0]) == pytest.approx(2)
    # λ = 4, 1: 25 / 17
    assert cards.effective_dimension(corners[:, :2] * [2, 1]) == pytest.approx(25 / 17)
    assert cards.effective_dimension(corners[:, :1]) == pytest.approx(1)


def test_effective_number_is_that_of_equally_frequent_ones():
    keys = np.array([1, 2, 3, 4] * 5, np.uint64)
    assert cards.effective_number(keys) == pytest.approx(4)
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert cards.effective_number(np.array([7] * 9 + [8])) == pytest.approx(np.exp(entropy))


def test_cells_are_a_standard_deviation_wide():
    # ±1 in each of two features: four cells, two of them visited thrice as often
    moving = np.array([[1, 1], [-1, -1]] * 3 + [[1, -1], [-1, 1]], float)
    found = cards.coverage(moving)
    shares = np.array([3, 3, 1, 1]) / 8
    assert found["cells"] == 4
    assert found["effective_cells"] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
    for numbers, cells in (([0.5, 1.5], 2), ([0.2, 0.8], 1), ([-0.5, 0.5], 2)):
        assert cards.coverage(np.array(numbers)[:, None])["cells"] == cells


def test_rows_have_the_same_key_only_if_they_are_equal():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, (2000, 5)).astype(np.float32)
    keys = cards.row_keys(rows[:, :2], rows[:, 2:])
    assert len(np.unique(keys)) == len(np.unique(rows, axis=0))
    zeros = cards.row_keys(np.array([0.0, -0.0, 1.0, -1.0], np.float32))
    assert zeros[0] == zeros[1] and len(np.unique(zeros)) == 3
    # neither columns that are swapped nor a sum that is kept makes them equal
    assert len(np.unique(cards.row_keys(np.array([[1, 2], [2, 1], [0, 3], [3, 0]])))) == 4


def test_repeated_transitions_and_episodes():
    dataset = made()
    assert card(dataset)["repeated"] == {"transitions": 0, "episodes": 0}
    rows = dataset.transitions
    twice = made(
        **{
            field: np.concatenate([np.asarray(getattr(rows, field))] * 2)
            for field in ("observation", "action", "reward", "next_observation")
        },
        n=20,
        terminal=(4, 14),
        end=(4, 9, 14, 19),
    )
    found = card(twice)
    assert found["repeated"] == {"transitions": 10, "episodes": 2}
    assert_warned(found, "50.0% of transitions repeat")
    assert_warned(found, "2 of 4 episodes repeat")


def test_episodes_with_the_same_transitions_in_another_order_are_different():
    keys = np.array([1, 2, 3, 1, 2, 3, 3, 2, 1, 1, 2], np.uint64)
    episode = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    first, again, reversed_, shorter = cards.episode_keys(keys, episode)
    assert first == again and len({int(first), int(reversed_), int(shorter)}) == 3


def test_jumps_and_missing_next_actions():
    dataset = made()
    assert card(dataset)["continuity"] == {
        "jumps": 0.0,
        "without_next_action": pytest.approx(1 / 9),  # nine are no true ends, one of them the last
    }
    next_observation = np.array(dataset.transitions.next_observation)
    next_observation[[0, 4, 7]] += 1  # the second of them ends an episode
    found = card(made(next_observation=next_observation))
    assert found["continuity"]["jumps"] == pytest.approx(2 / 8)
    assert_warned(found, "25.0% of the steps within episodes do not lead")
    assert_warned(found, "11% of transitions that are no true ends have no next action")
    one_step = card(made(terminal=range(10), end=range(10)))["continuity"]
    assert one_step == {"jumps": 0.0, "without_next_action": 0.0}


@pytest.mark.parametrize(
    ("env_id", "keys", "is_position"),
    [
        ("PointMaze_UMaze-v3", (), True),
        ("PointMaze_UMaze-v3", ("observation", "desired_goal"), True),
        ("PointMaze_UMaze-v3", ("desired_goal",), False),
        ("AntMaze_UMaze-v4", ("achieved_goal", "observation"), True),
        ("AntMaze_UMaze-v4", ("observation",), False),
        ("Hopper-v5", (), False),
    ],
)
def test_mazes_are_mapped_by_position(env_id, keys, is_position):
    found = card(made(env_id=env_id, observation_keys=keys))["map"]
    assert found["is_position"] is is_position
    assert np.sum(found["counts"]) == 10


def test_a_map_counts_x_then_y():
    observation = np.tile([[0.0, 0.0, 5.0], [1.0, 0.0, 6.0]], (5, 1))
    observation[0, 1] = 1.0
    found = card(made(observation=observation, env_id="PointMaze_UMaze-v3"))["map"]
    counts = np.array(found["counts"])
    assert (counts[0, 0], counts[-1, 0], counts[0, -1], counts[-1, -1]) == (4, 5, 1, 0)


def test_principal_components_are_where_features_vary_most():
    rng = np.random.default_rng(0)
    common = rng.normal(size=500)
    moving = np.stack([common, common, -common, rng.normal(size=500)], 1)
    first, second = cards.principal_components(moving).T
    assert abs(np.corrcoef(first, common)[0, 1]) > 0.99
    assert abs(np.corrcoef(second, moving[:, 3])[0, 1]) > 0.99


def test_histograms_hold_every_number():
    found = card(made())["histograms"]
    assert sum(found["return"]["counts"]) == sum(found["length"]["counts"]) == 2
    assert sum(found["reward"]["counts"]) == 10 and found["reward"]["edges"][-1] == 9


def test_warnings_of_small_data():
    found = card(made())
    assert_warned(found, "only 10 transitions")
    assert_warned(found, "only 2 episodes")
    endless = card(made(terminal=(), end=(9,), env_id=None))
    assert_warned(endless, "no true end")
    assert_warned(endless, "a single episode")
    assert_warned(endless, "no environment")
    door = dataclasses.replace(
        made(), spec=dataclasses.replace(made().spec, env_id="AdroitHandDoor-v1")
    )
    assert_warned(card(door), "not comparable with published")


def test_data_without_faults_are_not_warned_of():
    rng = np.random.default_rng(0)
    n = 10_000
    end = np.arange(1, n + 1) % 100 == 0
    dataset = data.dataset_from_arrays(
        rng.normal(size=(n, 3)),
        rng.uniform(-0.9, 0.9, (n, 2)),
        rng.normal(size=n),
        end,
        env_id="Hopper-v5",
    )
    assert card(dataset)["warnings"] == []
