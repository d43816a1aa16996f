"""Small datasets with known answers, built from arrays."""

import numpy as np

from offrl_jax.data import Dataset, dataset_from_arrays
from offrl_jax.testing import random_dataset as random_dataset


def bandit(action: np.ndarray, reward: np.ndarray) -> Dataset:
    """One-step episodes from a single state."""
    n = len(action)
    return dataset_from_arrays(
        np.zeros((n, 2)), action, reward, np.ones(n), next_observation=np.zeros((n, 2))
    )


def chain(num_rows: int = 400) -> Dataset:
    """s₀ → s₁ → end, rewards 1 and 2, whatever the action."""
    rng = np.random.default_rng(0)
    first = np.arange(num_rows) % 2 == 0
    observation = np.stack([first, ~first], 1).astype(float)
    return dataset_from_arrays(
        observation,
        rng.uniform(-1, 1, (num_rows, 1)),
        np.where(first, 1.0, 2.0),
        ~first,
        next_observation=np.roll(observation, -1, 0),
    )
