"""A dataset in a few numbers."""

from typing import Any

import numpy as np

from offrl_jax.data.dataset import Dataset, episode_returns
from offrl_jax.data.scores import normalized_score

SATURATED = 0.999  # |action| beyond which atanh is clipped


def summary(dataset: Dataset) -> dict[str, Any]:
    """Size, returns in raw reward units, episode ends, score and the share of action entries at
    their bounds, None for discrete ones, which have none."""
    returns = episode_returns(dataset)
    reference = dataset.spec.reference_scores
    ends = np.flatnonzero(np.diff(dataset.episode, append=len(returns)))
    terminal = np.asarray(dataset.transitions.terminal)[ends]
    return {
        "transitions": len(dataset),
        "episodes": len(returns),
        "mean_return": float(returns.mean()),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "mean_length": len(dataset) / len(returns),
        "terminal_ends": int(terminal.sum()),
        "truncated_ends": int((1 - terminal).sum()),
        "mean_score": reference and float(normalized_score(returns.mean(), reference)),
        "saturated_actions": None
        if dataset.spec.discrete
        else float(np.mean(np.abs(dataset.transitions.action) > SATURATED)),
    }
