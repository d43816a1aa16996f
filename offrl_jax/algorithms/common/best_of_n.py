"""The best of N sampled actions: the one of highest Q, and its value."""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.critics import q_values
from offrl_jax.losses.td import ensemble_mix
from offrl_jax.types import Array, Float, Key


def sample_noise(
    key: Key | None, num_states: Any, num_samples: int, size: int
) -> Float[Array, "B_or_1 N W"]:
    """Standard normal numbers (B, N, W) to sample N actions a state from.

    Without a key they are (1, N, W), the same for every state and call, so that acting is a
    function of the state alone. `num_states` is an int, or symbolic while a policy is exported.
    """
    if key is None:
        return jax.random.normal(jax.random.key(0), (1, num_samples, size))
    return jax.random.normal(key, (num_states, num_samples, size))


def best_action(action: Float[Array, "B N A"], q: Float[Array, "B N"]) -> Float[Array, "B A"]:
    """argmax_j Q(s, a_j) over the N actions of each state."""
    index = jnp.argmax(q, axis=1)[:, None, None]
    return jnp.take_along_axis(action, index, axis=1)[:, 0]


def best_action_value(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B N A"]
) -> Float[Array, "B"]:
    """max_j [ λ min_k Q_k(s, a_j) + (1 − λ) max_k Q_k(s, a_j) ] over the N actions.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900, eq. 13; Kumar et al. 2019 (BEAR),
    arXiv:1906.00949, algorithm 1.
    """
    q = q_values(config, critic, observation, action)
    return jnp.max(ensemble_mix(q, config.minimum_weight), axis=1)
