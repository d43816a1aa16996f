import numpy as np
import pytest
from scipy.stats import trim_mean

from offrl_jax.evaluation.statistics import bootstrap_interval, interquartile_mean


@pytest.mark.parametrize("n", [3, 4, 5, 8, 13])
def test_interquartile_mean_is_the_25_percent_trimmed_mean(n):
    scores = np.random.default_rng(n).normal(size=n)
    assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25))


def test_interquartile_mean_ignores_an_outlier():
    assert interquartile_mean(np.array([1.0, 2.0, 3.0, 1e9])) == 2.5


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(size=20), num_resamples=500, seed=trial)
        hits += low < 0.0 < high
    assert 0.85 < hits / 200 <= 1.0


def test_interval_of_equal_scores_is_a_point_and_of_one_score_unknown():
    assert bootstrap_interval(np.full(5, 3.0)) == (3.0, 3.0)
    assert np.isnan(bootstrap_interval(np.array([3.0]))).all()


def test_interval_of_another_statistic():
    scores = np.array([0.0, 0.0, 0.0, 900.0])
    assert bootstrap_interval(scores, statistic=np.mean)[1] > 225.0
