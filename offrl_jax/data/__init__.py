"""Offline data: sources → `Dataset`, its transforms and its sampling."""

from offrl_jax.data.dataset import (
    Dataset,
    episode_returns,
    from_arrays,
    keep_best_episodes,
    normalize_observations,
    sample,
    scale_rewards_by_return_range,
    transform_rewards,
    with_discount,
)
from offrl_jax.data.sources import load

__all__ = [
    "Dataset",
    "episode_returns",
    "from_arrays",
    "keep_best_episodes",
    "load",
    "normalize_observations",
    "sample",
    "scale_rewards_by_return_range",
    "transform_rewards",
    "with_discount",
]
