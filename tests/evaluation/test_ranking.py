"""Rank correlation, regret and calibration against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from offrl_jax.evaluation.ranking import calibration, ranks, regret_at_k, spearman


@pytest.mark.parametrize("seed", range(5))
def test_spearman_equals_scipys_with_ties(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 20).astype(float), rng.integers(0, 6, 20).astype(float)
    np.testing.assert_array_equal(ranks(a), stats.rankdata(a))
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_spearman_sees_order_alone():
    a = np.array([3.0, 1.0, 2.0])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert np.isnan(spearman(a, np.ones(3)))
    assert np.isnan(spearman(a[:1], a[:1]))


def test_regret_is_a_share_of_the_range():
    score, truth = np.array([4.0, 3.0, 2.0, 1.0]), np.array([10.0, 0.0, 40.0, 50.0])
    assert regret_at_k(score, truth, 1) == pytest.approx(40 / 50)
    assert regret_at_k(score, truth, 2) == pytest.approx(40 / 50)
    assert regret_at_k(score, truth, 3) == pytest.approx(10 / 50)
    assert regret_at_k(score, truth, 4) == 0
    assert regret_at_k(score, np.ones(4), 1) == 0


def test_calibration_of_an_estimate_that_exaggerates():
    truth = np.array([1.0, 2.0, 4.0])
    found = calibration(2 * truth + 3, truth)
    assert found["slope"] == pytest.approx(0.5)
    assert found["mean_error"] == pytest.approx(np.mean(truth + 3))
    assert np.isnan(calibration(np.ones(3), truth)["slope"])
