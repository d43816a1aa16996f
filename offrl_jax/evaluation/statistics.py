"""Statistics of scores over seeds and tasks.

A study's scores are an array (S, T) with a column a task or, where tasks have different numbers of
seeds, T arrays (S,). What is said of a whole study pools its scores, so a task counts by its seeds.

Source: Agarwal et al. 2021, arXiv:2108.13264, section 4; gives what their `rliable` gives.
"""

from collections.abc import Callable, Sequence

import numpy as np

Scores = np.ndarray | Sequence[np.ndarray]


def by_task(scores: Scores) -> list[np.ndarray]:
    """A study's scores as T arrays (S,)."""
    columns = scores.T if isinstance(scores, np.ndarray) else scores
    return [np.asarray(column, np.float64) for column in columns]


def pooled(scores: Scores) -> np.ndarray:
    """All of a study's scores, seeds and tasks alike, (N,)."""
    return np.concatenate(by_task(scores), axis=-1)


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half: the lowest and highest ⌊n/4⌋ of n scores are left out.

    Below four scores nothing is left out and it equals the mean.
    """
    scores = np.sort(np.asarray(scores, np.float64), axis=axis)
    n = scores.shape[axis]
    cut = n // 4
    return np.take(scores, np.arange(cut, n - cut), axis=axis).mean(axis=axis)


def optimality_gap(scores: np.ndarray, axis: int = -1, *, target: float = 100.0) -> np.ndarray:
    """γ − mean min(score, γ): how far scores fall short of the target γ on average, where what
    exceeds it makes up for nothing. At least 0; lower is better."""
    return target - np.minimum(scores, target).mean(axis=axis)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores above each threshold τ.

    Args:
      scores: (..., N).
      thresholds: (K,).

    Returns:
      (..., K), falling from at most 1 to at least 0.
    """
    return np.stack([(scores > threshold).mean(-1) for threshold in thresholds], axis=-1)


def probability_of_improvement(scores: Scores, others: Scores) -> np.ndarray:
    """How probable it is that a seed of one study beats one of another on a task drawn at random.

    P(X > Y) = 1/T Σ_t 1/(S S') Σ_ij [1(x_ti > y_tj) + ½ 1(x_ti = y_tj)]   (U of Mann and Whitney)

    Args:
      scores: The study X; its T arrays may be resamples, (..., S).
      others: The study Y of the same tasks in the same order, with any number of seeds.

    Returns:
      (...), in [0, 1]; 0.5 where neither is better.
    """
    shares = []
    for x, y in zip(by_task(scores), by_task(others), strict=True):
        x, y = x[..., :, None], y[..., None, :]
        shares.append(((x > y) + 0.5 * (x == y)).mean((-2, -1)))
    return np.mean(shares, axis=0)


def stratified_interval(
    statistic: Callable,
    *studies: Scores,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile-bootstrap interval: the seeds of every task are resampled with replacement, each
    task's among themselves; the tasks are taken as given.

    Args:
      statistic: Of as many studies, each as T arrays (resamples, S); gives (resamples, ...).
      *studies: Resampled apart from one another.
      confidence: Coverage, in (0, 1).
      num_resamples: How many.
      seed: Of the resampling.

    Returns:
      Lower and upper end; NaN if some task has a single seed.
    """
    rng = np.random.default_rng(seed)
    tasks = [by_task(study) for study in studies]
    resampled = [
        [scores[rng.integers(0, len(scores), (num_resamples, len(scores)))] for scores in study]
        for study in tasks
    ]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(statistic(*resampled), [tail, 100 - tail], axis=0)
    if min(len(scores) for study in tasks for scores in study) < 2:
        return np.full_like(low, np.nan), np.full_like(high, np.nan)
    return low, high


def bootstrap_interval(
    scores: np.ndarray, *, statistic: Callable = interquartile_mean, **options
) -> tuple[float, float]:
    """Percentile-bootstrap interval of a statistic over seeds.

    Args:
      scores: One score a seed, (S,); with one seed both ends are NaN, as nothing can be said.
      statistic: (scores, axis) -> one number for each row.
      **options: See `stratified_interval`.
    """
    if len(scores) < 2:
        return float("nan"), float("nan")
    low, high = stratified_interval(lambda study: statistic(study[0], axis=-1), [scores], **options)
    return float(low), float(high)
