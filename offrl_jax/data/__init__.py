"""Offline data: sources → `Dataset`, its transforms and its sampling."""

from offrl_jax.data.arrays import dataset_from_arrays
from offrl_jax.data.dataset import Data, Dataset, episode_returns, sample
from offrl_jax.data.sources import load_dataset
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import shard
from offrl_jax.data.transforms import (
    keep_best_episodes,
    map_rewards,
    normalize_observations,
    scale_rewards_by_return_range,
    transform_rewards,
    with_discount,
    with_rewards,
)

__all__ = [
    "Data",
    "Dataset",
    "HostDataset",
    "dataset_from_arrays",
    "episode_returns",
    "keep_best_episodes",
    "load_dataset",
    "map_rewards",
    "normalize_observations",
    "sample",
    "scale_rewards_by_return_range",
    "shard",
    "transform_rewards",
    "with_discount",
    "with_rewards",
]
