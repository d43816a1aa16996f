"""Choosing among trained policies with a stated number of environment episodes.

Source: Kurenkov & Kolesnikov 2022, arXiv:2110.04156 (expected online performance); Auer et al. 2002
(UCB1); as a protocol of offline reinforcement learning Jackson et al. 2025, arXiv:2504.11453.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def expected_online_performance(values: np.ndarray, *, replace: bool = True) -> np.ndarray:
    """The expected best of k policies drawn at random from n, for k = 1 … n: what trying k settings
    online and keeping the best returns.

    Σ_i v_(i) · P(the best of k is the i-th lowest), with P = (i/n)^k − ((i−1)/n)^k with replacement
    and C(i−1, k−1) / C(n, k) without.

    Args:
      values: Mean return of each of n policies over the episodes that trying it takes.
      replace: Whether the same policy may be drawn twice (the paper's way, for policies that stand
        for others of their kind), or every one of these once.
    """
    values = np.sort(np.asarray(values, np.float64))
    n = len(values)
    i, k = np.arange(1, n + 1)[None], np.arange(1, n + 1)[:, None]
    if replace:
        weights = (i / n) ** k - ((i - 1) / n) ** k
    else:
        # ∏_{j<k} (i − j)/(n − j) is the chance that k draws are all among the i lowest.
        j = np.arange(n)
        among = np.cumprod(np.maximum(np.arange(n + 1)[:, None] - j, 0) / (n - j), axis=1).T
        weights = np.diff(among, axis=1)
    return weights @ values


class Bandit(NamedTuple):
    """What R repeats of a bandit over n policies came to, after each of T episodes.

    Attributes:
      choice: The policy of the highest mean so far, (T, R).
      counts: Episodes given to each policy, (R, n); they sum to T.
      means: Mean returns seen of each, (R, n), NaN of those never tried.
    """

    choice: np.ndarray
    counts: np.ndarray
    means: np.ndarray


def ucb(
    pull: Callable[[np.ndarray], np.ndarray],
    num_policies: int,
    num_episodes: int,
    *,
    num_repeats: int = 1,
    seed: int = 0,
) -> Bandit:
    """UCB1: every policy once in random order, then always argmax_i  mean_i + R √(2 ln t / n_i),
    with R the range of the returns seen, since returns have no bounds that are known.

    Args:
      pull: Plays an episode with one policy for every repeat: indices (R,) to returns (R,).
      num_policies: n.
      num_episodes: T.
      num_repeats: R.
      seed: Of the first round's order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(num_policies), (num_repeats, 1)), axis=1)
    counts, sums = np.zeros((2, num_repeats, num_policies))
    low, high = np.full(num_repeats, np.inf), np.full(num_repeats, -np.inf)
    repeats, choice = np.arange(num_repeats), np.zeros((num_episodes, num_repeats), int)
    for t in range(num_episodes):
        if t < num_policies:
            chosen = order[:, t]
        else:
            bonus = (high - low)[:, None] * np.sqrt(2 * np.log(t) / counts)
            chosen = np.argmax(sums / counts + bonus, axis=1)
        returns = pull(chosen)
        counts[repeats, chosen] += 1
        sums[repeats, chosen] += returns
        low, high = np.minimum(low, returns), np.maximum(high, returns)
        means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        choice[t] = np.nanargmax(means, axis=1)
    return Bandit(choice, counts.astype(int), means)


def bandit_curve(
    returns: np.ndarray,
    num_episodes: int,
    *,
    num_repeats: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What the policy is worth that UCB would have chosen after t = 1 … T environment episodes.

    Each repeat plays episodes drawn with replacement from those recorded; a policy is worth its
    mean over all of them.

    Args:
      returns: Of n policies in E recorded episodes each, (n, E).
      num_episodes: T.
      num_repeats: Bootstrap repeats.
      confidence: Of the interval over repeats, in (0, 1).
      seed: Of the repeats.

    Returns:
      `mean`, `low` and `high`, (T,) each.
    """
    rng = np.random.default_rng(seed)

    def pull(chosen: np.ndarray) -> np.ndarray:
        return returns[chosen, rng.integers(0, returns.shape[1], len(chosen))]

    choice = ucb(pull, len(returns), num_episodes, num_repeats=num_repeats, seed=seed).choice
    worth = returns.mean(1)[choice]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(worth, [tail, 100 - tail], axis=1)
    return {"mean": worth.mean(1), "low": low, "high": high}
