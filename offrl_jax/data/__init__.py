"""Offline data: sources → `Dataset`, its transforms and its sampling."""

from offrl_jax.data.dataset import (
    Data,
    Dataset,
    dataset_from_arrays,
    episode_returns,
    keep_best_episodes,
    normalize_observations,
    sample,
    scale_rewards_by_return_range,
    transform_rewards,
    with_discount,
)
from offrl_jax.data.sources import load_dataset
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import shard

__all__ = [
    "Data",
    "Dataset",
    "HostDataset",
    "dataset_from_arrays",
    "episode_returns",
    "keep_best_episodes",
    "load_dataset",
    "normalize_observations",
    "sample",
    "scale_rewards_by_return_range",
    "shard",
    "transform_rewards",
    "with_discount",
]
