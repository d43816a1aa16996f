"""Transforms of a dataset before training."""

import dataclasses
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data import checks
from offrl_jax.data.dataset import (
    Data,
    Dataset,
    episode_returns,
    fingerprint,
    returns_to_go,
    reward_sums,
)
from offrl_jax.types import Array, InputError, Transition

STD_FLOOR = 1e-3  # added to every standard deviation (TD3+BC, CORL)


def normalize_observations(dataset: Data) -> Data:
    """Standardises observations: (s − mean) / (std + 1e-3), as TD3+BC and CORL do.

    Features that never vary come out as 0, with a warning.
    """
    mean, variance, low, high = _moments(dataset)
    constant = np.flatnonzero(low == high)
    if len(constant):
        logging.warning(
            "%d of %d observation features of %s never vary (columns %s); later values that differ "
            "are divided by %g",
            len(constant),
            len(mean),
            dataset.spec.name,
            ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else ""),
            STD_FLOOR,
        )
    old = dataset.preprocessing
    step = old._replace(
        observation_mean=jnp.asarray(mean, jnp.float32),
        observation_std=jnp.asarray(np.sqrt(variance) + STD_FLOOR, jnp.float32),
    )
    preprocessing = old._replace(
        observation_mean=old.observation_mean + old.observation_std * step.observation_mean,
        observation_std=old.observation_std * step.observation_std,
    )
    return dataset.normalized(step, preprocessing)


def _moments(dataset: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance, least and greatest of each observation feature, (O,) each, joined from those
    of the parts (Chan, Golub and LeVeque 1983)."""
    mean, variance, low, high, count = 0.0, 0.0, np.inf, -np.inf, 0
    for (x,) in dataset.parts("observation"):
        count += len(x)
        share = len(x) / count
        away = x.mean(0, dtype=np.float64) - mean
        variance = (1 - share) * variance + share * x.var(0, dtype=np.float64)
        variance = variance + share * (1 - share) * away**2
        mean = mean + share * away
        low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
    return mean, variance, low, high


def transform_rewards(dataset: Data, *, scale: float = 1.0, bias: float = 0.0) -> Data:
    """r ← scale · r + bias, with a new return-to-go; AntMaze recipes use (1, −1) and (10, −5).

    Without terminations this maps Q to scale · Q + bias / (1 − γ), so penalty weights and
    thresholds depend on it.

    Raises:
      InputError: if the scale is 0 or a number is not finite, since returns could not be recovered.
    """
    with np.errstate(over="ignore"):
        stored = np.float32([scale, bias, scale * dataset.preprocessing.reward_scale])
    if stored[0] == 0 or stored[2] == 0 or not np.isfinite(stored).all():
        raise InputError(
            f"rewards cannot become {scale} r + {bias}; give finite numbers, scale not 0"
        )
    old = dataset.preprocessing
    preprocessing = old._replace(
        reward_scale=old.reward_scale * scale, reward_bias=old.reward_bias * scale + bias
    )
    return dataset.rescaled(scale, bias, preprocessing)


def scale_rewards_by_return_range(dataset: Data) -> Data:
    """r ← r · 1000 / (max return − min return), the Gym locomotion transform of IQL."""
    returns = reward_sums(dataset)
    spread = returns.max() - returns.min()
    if spread <= 1e-6 * max(1.0, np.abs(returns).max()):
        raise InputError(
            f"all {len(returns)} episodes of {dataset.spec.name} have the same return, so rewards "
            "cannot be scaled by the range of returns; leave that transform out"
        )
    return transform_rewards(dataset, scale=1000.0 / spread)


def with_rewards(dataset: Data, rewards: Array | np.ndarray) -> Dataset:
    """The dataset with other rewards, new returns-to-go, and a fingerprint of its own.

    The environment that evaluates keeps its own rewards and reference scores.

    Args:
      dataset: A raw dataset, as `load_dataset` returns it: transforms come after the rewards.
      rewards: One number a transition, in the order of the dataset, (N,).

    Raises:
      InputError: if their shape differs, one is not finite, or the dataset is preprocessed already
        or on the disk.
    """
    name = dataset.spec.name
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"rewards of {name} cannot be replaced in host memory; replace them before the data "
            "are written as shards, or load the data with placement=device"
        )
    if not dataset.preprocessing.is_identity:
        raise InputError(
            f"{name} is preprocessed already; replace the rewards of the raw dataset, and "
            "normalise observations and scale rewards after that"
        )
    reward = checks.numbers(name, "reward", rewards, 1)
    if len(reward) != len(dataset):
        raise InputError(
            f"{len(reward)} rewards are given for {len(dataset)} transitions of {name}; give one a "
            "transition"
        )
    episode = np.asarray(dataset.episode)
    what = f"reward of dataset {name} is not finite"
    checks.never(~np.isfinite(reward), what, episode, "give finite rewards")
    returns = returns_to_go(reward, episode, dataset.discount)
    source = np.frombuffer(dataset.spec.fingerprint.encode(), np.uint8)
    return dataclasses.replace(
        dataset,
        transitions=dataset.transitions._replace(
            reward=jnp.asarray(reward), return_to_go=jnp.asarray(returns)
        ),
        spec=dataclasses.replace(dataset.spec, fingerprint=fingerprint(source, reward)),
    )


def map_rewards(dataset: Data, fn: Callable[[Transition], Array | np.ndarray]) -> Dataset:
    """The dataset with rewards that `fn` computes from its transitions; see `with_rewards`.

    Args:
      dataset: A raw dataset, as `load_dataset` returns it.
      fn: Maps all N transitions at once, fields of shape (N, ...), to rewards (N,). Observations
        are as in the environment; actions are in [−1, 1], or one-hot if discrete.

    Raises:
      InputError: as `with_rewards`.
    """
    if not isinstance(dataset, Dataset):
        return with_rewards(dataset, np.zeros(0))  # raises
    return with_rewards(dataset, fn(dataset.transitions))


def with_discount(dataset: Data, discount: float) -> Data:
    """The dataset with its returns-to-go discounted by γ = `discount`."""
    if discount == dataset.discount:
        return dataset
    return transform_rewards(dataclasses.replace(dataset, discount=float(discount)))


def keep_best_episodes(dataset: Data, fraction: float) -> Dataset:
    """The episodes with the highest undiscounted return: percentile behaviour cloning's filter.

    Args:
      dataset: The data to choose from.
      fraction: Share of the episodes to keep, in (0, 1]; at least one is kept.

    Raises:
      InputError: if the share is not in (0, 1], or the data are not on the device.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"episodes of {dataset.spec.name} cannot be chosen in host memory; choose them before "
            "the data are written as shards, or load the data with placement=device"
        )
    if not 0 < fraction <= 1:
        raise InputError(f"the share of episodes to keep is {fraction}; give a number in (0, 1]")
    returns = episode_returns(dataset)
    num_kept = max(1, round(fraction * len(returns)))
    best = np.sort(np.argsort(-returns, kind="stable")[:num_kept])
    rows = np.flatnonzero(np.isin(dataset.episode, best))
    episode = np.searchsorted(best, np.asarray(dataset.episode)[rows]).astype(np.int32)
    transitions = jax.tree.map(lambda x: x[rows], dataset.transitions)
    return dataclasses.replace(dataset, transitions=transitions, episode=jnp.asarray(episode))
