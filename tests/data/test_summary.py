import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data.summary import summary


def test_counts_returns_score_and_saturation(columns):
    dataset = data.dataset_from_arrays(
        columns["observations"],
        np.array([[1, 0], [0, -1], [0.5, 0.5], [0, 0], [0, 0]]),
        columns["rewards"],
        columns["terminals"],
        timeout=np.array([0, 0, 0, 1, 1]),
        next_observation=columns["next_observations"],
        reference_scores=(0.0, 10.0),
    )
    shifted = data.transform_rewards(dataset, scale=3.0, bias=-1.0)
    assert summary(shifted) == pytest.approx(
        {
            "transitions": 5,
            "episodes": 3,
            "mean_return": 5.0,
            "min_return": 4.0,
            "max_return": 6.0,
            "mean_length": 5 / 3,
            "terminal_ends": 1,
            "truncated_ends": 2,
            "mean_score": 50.0,
            "saturated_actions": 0.2,
        }
    )


def test_unknown_reference_gives_no_score(columns):
    dataset = data.dataset_from_arrays(*(columns[k] for k in list(columns)[:4]))
    assert summary(dataset)["mean_score"] is None
