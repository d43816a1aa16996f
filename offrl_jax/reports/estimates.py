"""A study's numbers with their 95% intervals."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from offrl_jax.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    pooled,
    probability_of_improvement,
    stratified_interval,
)

NUM_RESAMPLES = 2_000  # of every interval


@dataclasses.dataclass(frozen=True)
class IntervalEstimate:
    """A number and the ends of its 95% interval; NaN where undefined."""

    value: float
    low: float
    high: float


def over_seeds(scores: np.ndarray) -> IntervalEstimate:
    """Interquartile mean of scores of seeds."""
    interval = bootstrap_interval(scores, num_resamples=NUM_RESAMPLES)
    return IntervalEstimate(float(interquartile_mean(scores)), *interval)


def over_tasks(scores: Sequence[np.ndarray], statistic: Callable) -> IntervalEstimate:
    """A statistic of the pooled scores of T tasks, such as `interquartile_mean`."""
    low, high = stratified_interval(
        lambda study: statistic(pooled(study)), scores, num_resamples=NUM_RESAMPLES
    )
    return IntervalEstimate(float(statistic(pooled(scores))), float(low), float(high))


def aggregates(scores: Sequence[np.ndarray]) -> dict[str, IntervalEstimate]:
    """Over T tasks: interquartile mean, mean, and optimality gap to a score of 100."""
    return {
        "interquartile mean": over_tasks(scores, interquartile_mean),
        "mean": over_tasks(scores, lambda x: x.mean(-1)),
        "optimality gap": over_tasks(scores, optimality_gap),
    }


def improvement(scores: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> IntervalEstimate:
    """The probability that the one improves upon the other."""
    low, high = stratified_interval(
        probability_of_improvement, scores, others, num_resamples=NUM_RESAMPLES
    )
    return IntervalEstimate(
        float(probability_of_improvement(scores, others)), float(low), float(high)
    )


def profile(
    scores: Sequence[np.ndarray], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The performance profile and the ends of its intervals, (K,) each."""
    low, high = stratified_interval(
        lambda study: performance_profile(pooled(study), thresholds),
        scores,
        num_resamples=NUM_RESAMPLES,
    )
    return performance_profile(pooled(scores), thresholds), low, high
