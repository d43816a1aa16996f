"""A dataset in a few numbers."""

from typing import Any

import numpy as np

from offrl_jax.data.dataset import Data, episode_returns
from offrl_jax.data.scores import normalized_score

SATURATED = 0.999  # |action| beyond which atanh is clipped


def summary(dataset: Data) -> dict[str, Any]:
    """Size, returns in raw reward units, episode ends, score and the share of action entries at
    their bounds, None for discrete ones, which have none."""
    returns = episode_returns(dataset)
    reference = dataset.spec.reference_scores
    last_terminal, num_saturated = np.zeros(len(returns)), 0
    for action, terminal, episode in dataset.parts("action", "terminal", "episode"):
        last_terminal[episode] = terminal  # of an episode's rows the last one stays
        num_saturated += int(np.count_nonzero(np.abs(action) > SATURATED))
    num_terminal = int(last_terminal.sum())
    return {
        "transitions": len(dataset),
        "episodes": len(returns),
        "mean_return": float(returns.mean()),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "mean_length": len(dataset) / len(returns),
        "terminal_ends": num_terminal,
        "truncated_ends": len(returns) - num_terminal,
        "mean_score": reference and float(normalized_score(returns.mean(), reference)),
        "saturated_actions": None
        if dataset.spec.discrete
        else num_saturated / (len(dataset) * dataset.spec.action_size),
    }
