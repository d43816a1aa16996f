"""A ring of transitions with costs, as a pytree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, InputError, Int, Key


class Experience(NamedTuple):
    """Transitions for the accident critic."""

    observation: Float[Array, "*B O"]
    action: Float[Array, "*B A"]  # as carried out, in [−1, 1]
    next_observation: Float[Array, "*B O"]
    cost: Float[Array, "*B"]  # 1 where an accident happened
    terminal: Float[Array, "*B"]  # 1 at true ends, accidents among them


class Replay(NamedTuple):
    """Attributes:
    rows: The newest `capacity` transitions, in no order.
    num_added: Transitions ever added.
    """

    rows: Experience
    num_added: Int[Array, ""]

    @property
    def capacity(self) -> int:
        return self.rows.cost.shape[0]


def empty(capacity: int, observation_size: int, action_size: int) -> Replay:
    observation = jnp.zeros((capacity, observation_size))
    flat = jnp.zeros(capacity)
    rows = Experience(observation, jnp.zeros((capacity, action_size)), observation, flat, flat)
    return Replay(rows, jnp.int32(0))


def append(replay: Replay, rows: Experience) -> Replay:
    """The buffer with B more rows in place of the oldest.

    Raises:
      InputError: if B is more than its capacity.
    """
    count = rows.cost.shape[0]
    if count > replay.capacity:
        raise InputError(
            f"replay_size={replay.capacity} does not hold the {count} transitions that come at "
            "once; give a larger one"
        )
    index = (replay.num_added + jnp.arange(count)) % replay.capacity
    stored = jax.tree.map(lambda old, new: old.at[index].set(new), replay.rows, rows)
    return Replay(stored, replay.num_added + count)


def sample(replay: Replay, key: Key, batch_size: int) -> Experience:
    """A uniform batch with replacement, of a buffer that is not empty."""
    held = jnp.minimum(replay.num_added, replay.capacity)
    index = jax.random.randint(key, (batch_size,), 0, held)
    return jax.tree.map(lambda x: x[index], replay.rows)
