"""Offline data: sources → `Dataset`, its transforms and its sampling."""

from offrl_jax.data.dataset import (
    Data,
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
from offrl_jax.data.host import HostDataset
from offrl_jax.data.shards import shard
from offrl_jax.data.sources import load

__all__ = [
    "Data",
    "Dataset",
    "HostDataset",
    "episode_returns",
    "from_arrays",
    "keep_best_episodes",
    "load",
    "normalize_observations",
    "sample",
    "scale_rewards_by_return_range",
    "shard",
    "transform_rewards",
    "with_discount",
]
