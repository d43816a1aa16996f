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
from offrl_jax.data.sources import load
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import shard

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
