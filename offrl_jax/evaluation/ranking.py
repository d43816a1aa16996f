"""Judging the judges: how well scores of policies foretell their true returns.

Source: Paine et al. 2020, arXiv:2007.09055; Fu et al. 2021, arXiv:2103.16596 (DOPE).
"""

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the lowest of n values; equal ones share the mean of their ranks."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[which]


def spearman(score: np.ndarray, truth: np.ndarray) -> float:
    """Rank correlation in [−1, 1]; NaN where one of the two never varies, or of fewer than two."""
    a, b = ranks(score), ranks(truth)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale > 0 else float("nan")


def regret_at_k(score: np.ndarray, truth: np.ndarray, k: int = 1) -> float:
    """( max_i G_i − max_{i among the k highest scores} G_i ) / ( max_i G_i − min_i G_i ).

    0 if the best policy is among the k, 1 if nothing but the worst is; 0 where all are the same. Of
    equal scores the earlier policies are taken.
    """
    top = np.argsort(-np.asarray(score), kind="stable")[:k]
    spread = np.max(truth) - np.min(truth)
    return float((np.max(truth) - np.max(truth[top])) / spread) if spread > 0 else 0.0


def calibration(estimate: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How an estimate in the truth's own units errs.

    Returns:
      `mean_error`, estimate less truth: positive where it over-estimates. `slope`, of the
      least-squares line of truth over estimate: 1 if differences between policies are as large as
      estimated, below if they are smaller; NaN where the estimate never varies.
    """
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    centred = estimate - estimate.mean()
    variance = np.sum(centred * centred)
    slope = np.sum(centred * (truth - truth.mean())) / variance if variance > 0 else np.nan
    return {"mean_error": float(np.mean(estimate - truth)), "slope": float(slope)}
