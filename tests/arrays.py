"""Small datasets with known answers, built from arrays."""

import numpy as np

from offrl_jax.data import Dataset, dataset_from_arrays


def random_dataset(
    num_rows: int = 240, *, observation_size=5, action_size=3, discrete=False, seed=0
) -> Dataset:
    """Noise with episodes of 20 steps, every other one ending in a true end."""
    rng = np.random.default_rng(seed)
    end = np.arange(1, num_rows + 1) % 20 == 0
    odd = np.arange(num_rows) // 20 % 2 == 1
    observation = rng.normal(size=(num_rows, observation_size))
    action = rng.uniform(-1, 1, (num_rows, action_size))
    return dataset_from_arrays(
        observation,
        action.argmax(1) if discrete else action,
        rng.normal(size=num_rows),
        end & odd,
        num_actions=action_size if discrete else None,
        timeout=end & ~odd,
        next_observation=observation + rng.normal(size=observation.shape),
    )


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
