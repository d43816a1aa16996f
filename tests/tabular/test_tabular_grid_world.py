"""Grid worlds from text: where moves lead, what cells pay, and which maps are refused."""

import numpy as np
import pytest

from offrl_jax import tabular
from offrl_jax.types import InputError

CROSS = """
    #.#
    S.G
    #X#
"""
UP, RIGHT, DOWN, LEFT = range(4)


def test_moves_slip_aside_and_walls_stop_them():
    world = tabular.grid_world(CROSS, discount=0.9, slip=0.2)
    np.testing.assert_array_equal(world.cell, [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)])
    np.testing.assert_array_equal(world.index, [[-1, 0, -1], [1, 2, 3], [-1, 4, -1]])
    top, start, middle, goal, trap = range(5)
    expected = np.zeros((4, 5))
    expected[UP, [top, start, goal]] = 0.8, 0.1, 0.1
    expected[RIGHT, [goal, top, trap]] = 0.8, 0.1, 0.1
    expected[DOWN, [trap, start, goal]] = 0.8, 0.1, 0.1
    expected[LEFT, [start, top, trap]] = 0.8, 0.1, 0.1
    np.testing.assert_allclose(world.mdp.transition[middle], expected, atol=1e-6)
    np.testing.assert_allclose(  # out of the map, and into the wall beside it
        world.mdp.transition[top, UP], [1, 0, 0, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(world.mdp.transition[start, RIGHT], [0, 0.2, 0.8, 0, 0], atol=1e-6)
    tabular.check(world.mdp)


def test_goals_and_traps_pay_and_end_the_episode():
    world = tabular.grid_world(
        CROSS, discount=0.5, goal_reward=8.0, trap_reward=-3.0, step_reward=-1.0
    )
    np.testing.assert_array_equal(world.mdp.terminal[:, 0], [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(world.mdp.initial, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(world.goal, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(world.trap, [0, 0, 0, 0, 1])
    value = tabular.value_iteration(world.mdp)
    np.testing.assert_allclose(value, [0.5, 0.5, 3.0, 8.0, -3.0])  # −1 + ½ · 3, −1 + ½ · 8
    picture = world.on_map(value)
    np.testing.assert_array_equal(np.isnan(picture), world.index < 0)
    assert picture[1, 2] == 8.0 and picture[2, 1] == -3.0
    best = tabular.greedy_policy(tabular.q_iteration(world.mdp)).argmax(1)
    assert tabular.ACTIONS[best[1]] == tabular.ACTIONS[best[2]] == "right"
    assert tabular.ACTIONS[best[0]] == "down"


@pytest.mark.parametrize(
    ("text", "slip", "sentence"),
    [
        ("S.\nG", 0.0, "ragged or has no S"),
        ("..\n.G", 0.0, "ragged or has no S"),
        ("S?\n.G", 0.0, "the map has"),
        ("SG", 1.5, "slip is 1.5"),
    ],
)
def test_other_maps_are_refused(text, slip, sentence):
    with pytest.raises(InputError, match=sentence):
        tabular.grid_world(text, discount=0.9, slip=slip)
