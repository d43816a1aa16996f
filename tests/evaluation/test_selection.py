"""Expected online performance against brute force; the bandit against arms it must tell apart."""

import itertools

import numpy as np
import pytest

from offrl_jax.evaluation.selection import bandit_curve, expected_online_performance, ucb

VALUES = np.array([3.0, -1.0, 7.0, 7.0, 2.5])


@pytest.mark.parametrize("replace", [True, False])
def test_expected_online_performance_is_the_mean_best_of_every_draw(replace):
    found = expected_online_performance(VALUES, replace=replace)
    for k in range(1, len(VALUES) + 1):
        draws = (
            itertools.product(VALUES, repeat=k) if replace else itertools.combinations(VALUES, k)
        )
        assert found[k - 1] == pytest.approx(np.mean([max(draw) for draw in draws])), k


def test_the_bandit_finds_the_best_arm_and_counts_every_episode():
    rng = np.random.default_rng(0)
    means, played = np.array([0.0, 5.0, 1.0, 2.0]), []

    def pull(chosen):
        played.append(chosen)
        return rng.normal(means[chosen])

    bandit = ucb(pull, 4, 200, num_repeats=3)
    assert len(played) == 200 and (bandit.counts.sum(1) == 200).all()
    assert (bandit.choice[-1] == 1).all()
    assert (bandit.counts.argmax(1) == 1).all() and (bandit.counts > 0).all()
    for repeat in range(3):
        counts = np.bincount([chosen[repeat] for chosen in played], minlength=4)
        np.testing.assert_array_equal(bandit.counts[repeat], counts)
    np.testing.assert_allclose(bandit.means[:, 1], 5, atol=0.5)


def test_every_arm_is_tried_once_before_any_is_twice():
    bandit = ucb(lambda chosen: chosen.astype(float), 5, 5, num_repeats=4)
    assert (bandit.counts == 1).all()
    assert (bandit.choice[-1] == 4).all()
    first = ucb(lambda chosen: chosen.astype(float), 5, 1, num_repeats=50)
    assert len(np.unique(first.choice)) == 5  # in an order of its own
    assert np.isnan(first.means).sum() == 50 * 4


def test_arms_are_pulled_by_their_upper_bounds():
    """Against the rule written out for one repeat."""
    returns = np.array([0.0, 1.0, 0.9])
    bandit = ucb(lambda chosen: returns[chosen], 3, 40)
    counts = np.ones(3)
    for t in range(3, 40):
        counts[np.argmax(returns + 1.0 * np.sqrt(2 * np.log(t) / counts))] += 1
    np.testing.assert_array_equal(bandit.counts[0], counts)


def test_the_curve_starts_at_a_random_policy_and_ends_near_the_best():
    rng = np.random.default_rng(1)
    returns = np.array([0.0, 1.0, 5.0])[:, None] + 0.1 * rng.normal(size=(3, 10))
    curve = bandit_curve(returns, 6, num_repeats=2000)
    worth = returns.mean(1)
    assert curve["mean"].shape == curve["low"].shape == (6,)
    assert curve["mean"][0] == pytest.approx(worth.mean(), abs=0.2)
    assert curve["mean"][1] == pytest.approx(
        expected_online_performance(worth, replace=False)[1], abs=0.2
    )
    for name in ("mean", "low", "high"):
        assert curve[name][-1] == pytest.approx(worth.max())
    assert curve["low"][0] == pytest.approx(worth.min())
