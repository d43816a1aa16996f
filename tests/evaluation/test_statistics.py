import importlib.util
import itertools
import warnings

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from offrl_jax.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    pooled,
    probability_of_improvement,
    stratified_interval,
)

RNG = np.random.default_rng(7)
OURS, THEIRS = RNG.normal(60, 30, (5, 3)), RNG.normal(50, 30, (5, 3))  # seeds × tasks
RAGGED = [np.array([1.0, 2.0, 4.0]), np.array([10.0, 30.0])]


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


def test_a_study_is_an_array_of_seeds_by_tasks_or_a_list_of_tasks():
    assert sorted(pooled(OURS)) == sorted(OURS.ravel())
    np.testing.assert_array_equal(pooled(RAGGED), [1, 2, 4, 10, 30])
    np.testing.assert_array_equal(pooled(OURS), pooled([OURS[:, t] for t in range(3)]))


def test_what_exceeds_the_target_makes_up_for_nothing():
    assert optimality_gap(np.array([50.0, 100.0, 1000.0])) == pytest.approx(50 / 3)
    assert optimality_gap(np.array([[150.0, 101.0], [-20.0, 20.0]])).tolist() == [0.0, 100.0]
    assert optimality_gap(np.array([0.25, 2.0]), target=1.0) == pytest.approx(0.375)


def test_the_profile_is_the_share_strictly_above():
    found = performance_profile(np.array([0.0, 10.0, 10.0, 30.0]), np.array([-1, 0, 10, 29, 30]))
    assert found.tolist() == [1.0, 0.75, 0.25, 0.25, 0.0]
    several = performance_profile(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0.5, 2.5]))
    assert several.tolist() == [[0.5, 0.0], [1.0, 0.5]]


def test_improvement_counts_pairs_with_half_of_the_ties():
    ours, theirs = [np.array([1.0, 2.0, 2.0]), [5.0]], [np.array([2.0, 0.0]), [5.0, 9.0]]
    shares = []
    for x, y in zip(ours, theirs, strict=True):
        pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(x, y)]
        shares.append(sum(pairs) / len(pairs))
    found = probability_of_improvement(ours, theirs)
    assert found == pytest.approx(np.mean(shares)) == pytest.approx((4 / 6 + 0.25) / 2)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - found)
    assert probability_of_improvement(OURS, OURS) == 0.5


def test_improvement_is_mann_and_whitneys_u():
    u = [mannwhitneyu(OURS[:, t], THEIRS[:, t]).statistic / 25 for t in range(3)]
    assert probability_of_improvement(OURS, THEIRS) == pytest.approx(np.mean(u))


def test_seeds_are_resampled_within_their_task():
    low, high = stratified_interval(
        lambda study: pooled(study).max(-1) - pooled(study).min(-1), [[1.0, 1.0], [9.0, 9.0, 9.0]]
    )
    assert low == high == 8.0  # no resample is without one of the tasks


def test_the_interval_is_that_of_all_resamples():
    """Two tasks of two seeds have sixteen equally probable resamples."""
    tasks = [np.array([0.0, 8.0]), np.array([1.0, 3.0])]
    means = [
        np.mean([*first, *second])
        for first in itertools.product(tasks[0], repeat=2)
        for second in itertools.product(tasks[1], repeat=2)
    ]
    found = stratified_interval(lambda study: pooled(study).mean(-1), tasks, confidence=0.8)
    assert found == tuple(np.percentile(means, [10, 90], method="inverted_cdf"))


def test_two_studies_are_resampled_apart():
    """Of the same study: resampled together, every draw would be 0.5."""
    low, high = stratified_interval(probability_of_improvement, OURS, OURS, num_resamples=500)
    assert low < 0.4 and high > 0.6


def test_a_task_with_a_single_seed_has_no_interval():
    low, high = stratified_interval(
        lambda study: performance_profile(pooled(study), np.arange(4.0)), [[1.0, 2.0], [3.0]]
    )
    assert low.shape == high.shape == (4,) and np.isnan([low, high]).all()


def test_the_seed_decides_the_interval():
    one, same, other = (
        stratified_interval(lambda s: interquartile_mean(pooled(s)), OURS, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_rliable_gives_the_same():
    if importlib.util.find_spec("rliable") is None:
        pytest.skip("rliable is not installed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rliable import library, metrics
    except Exception as error:  # it does not import beside pandas 3
        pytest.skip(f"rliable cannot be imported ({error})")
    assert metrics.aggregate_iqm(OURS) == pytest.approx(interquartile_mean(pooled(OURS)), rel=1e-12)
    assert metrics.aggregate_optimality_gap(OURS, 100) == pytest.approx(
        optimality_gap(pooled(OURS)), rel=1e-12
    )
    assert metrics.probability_of_improvement(OURS, THEIRS) == pytest.approx(
        probability_of_improvement(OURS, THEIRS), rel=1e-12
    )
    thresholds = np.linspace(-20, 120, 29)
    profiles, _ = library.create_performance_profile({"a": OURS}, thresholds, reps=10)
    np.testing.assert_allclose(profiles["a"], performance_profile(pooled(OURS), thresholds))
    many = RNG.normal(60, 30, (10, 6))  # Monte-Carlo estimates on both sides
    _, intervals = library.get_interval_estimates(
        {"a": many},
        lambda x: np.array([metrics.aggregate_iqm(x), metrics.aggregate_optimality_gap(x, 100)]),
        reps=5_000,
        random_state=np.random.RandomState(0),
    )
    ours = stratified_interval(
        lambda study: np.stack(
            [interquartile_mean(pooled(study)), optimality_gap(pooled(study))], axis=-1
        ),
        many,
    )
    np.testing.assert_allclose(ours, intervals["a"], atol=0.6)
    _, intervals = library.get_interval_estimates(
        {"x,y": (OURS, THEIRS)},
        metrics.probability_of_improvement,
        reps=5_000,
        random_state=np.random.RandomState(0),
    )
    ours = stratified_interval(probability_of_improvement, OURS, THEIRS)
    np.testing.assert_allclose(ours, intervals["x,y"].ravel(), atol=0.03)
