import dataclasses
import json

import pytest

from offrl_jax.data import scores
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.types import Spec


@pytest.mark.parametrize(
    ("env_id", "domain", "reference"),
    [
        ("Hopper-v5", "gym", (-20.272305, 3234.3)),
        ("HalfCheetah-v4", "gym", (-280.178953, 12135.0)),
        ("Walker2d-v5", "gym", (1.629008, 4592.3)),
        ("Ant-v5", "gym", (-325.6, 3879.7)),
        ("AdroitHandDoor-v1", "adroit", (-56.512833, 2880.5693087298737)),
        ("FrankaKitchen-v1", "kitchen", (0.0, 4.0)),
        ("AntMaze_UMaze-v4", "antmaze", None),  # continuing unless it is told otherwise
        ("PointMaze_UMaze-v3", "pointmaze", None),  # as registered, it is another task
        ("CartPole-v1", "other", (23.68, 500.0)),
        (None, "other", None),
    ],
)
def test_families(env_id, domain, reference):
    spec = Spec(1, 1, (0.0,), (1.0,), env_id=env_id)
    assert scores.domain(spec) == domain
    assert scores.domain(dataclasses.replace(spec, discrete=True)) == "discrete"
    assert scores.reference_scores(env_id, {}) == reference


def test_antmaze_scores_where_episodes_end_at_the_goal():
    assert scores.reference_scores("AntMaze_UMaze-v4", {"continuing_task": False}) == (0, 1)


@pytest.mark.parametrize("name", MAZES)
def test_pointmaze_scores_its_own_task(name):
    maze = MAZES[name]
    through_json = json.loads(json.dumps(maze.env_kwargs))
    assert scores.reference_scores(maze.env_id, through_json) == scores.POINTMAZE[name]


def test_table_agrees_with_d4rl(shared_data):
    published = json.loads((shared_data.parent / "spec/d4rl_reference_scores.json").read_text())
    for family, reference in scores.D4RL.items():
        found = {
            (entry["min"], entry["max"])
            for name, entry in published["scores"].items()
            if name.startswith(f"{family}-")
        }
        assert found == {reference}, family


def test_normalized_score():
    assert scores.normalized_score(15.0, (10.0, 20.0)) == 50.0
