"""Statistics of scores over seeds.

Source: Agarwal et al. 2021, arXiv:2108.13264 (interquartile mean, bootstrap intervals).
"""

from collections.abc import Callable

import numpy as np


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half: the lowest and highest ⌊n/4⌋ of n scores are left out.

    Below four scores nothing is left out and it equals the mean.
    """
    scores = np.sort(np.asarray(scores, np.float64), axis=axis)
    n = scores.shape[axis]
    cut = n // 4
    return np.take(scores, np.arange(cut, n - cut), axis=axis).mean(axis=axis)


def bootstrap_interval(
    scores: np.ndarray,
    *,
    statistic: Callable = interquartile_mean,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile-bootstrap interval of a statistic over seeds.

    Args:
      scores: One score a seed, (S,); with one seed both ends are NaN, as nothing can be said.
      statistic: (scores, axis) -> one number for each row.
      confidence: Coverage, in (0, 1).
      num_resamples: Resamples of the seeds with replacement.
      seed: Of the resampling.
    """
    scores = np.asarray(scores, np.float64)
    if len(scores) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    resamples = scores[rng.integers(0, len(scores), (num_resamples, len(scores)))]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(statistic(resamples, axis=-1), [tail, 100 - tail])
    return float(low), float(high)
