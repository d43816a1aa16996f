"""The axes of a program: seeds, settings × seeds, or runs with a setting each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.config import stack
from offrl_jax.types import InputError, Key


def check_stack(config: Any, key: Key) -> None:
    """Raises InputError unless a stacked config has a setting for each index of the first axis of
    the key."""
    for shape in {jnp.shape(leaf) for leaf in jax.tree.leaves(config)} - {()}:
        if shape != key.shape[:1]:
            raise InputError(
                f"the config is a stack of shape {shape} and the key has shape {key.shape}; give "
                "keys (H, S) for H settings × S seeds, or (H,) for a run of each setting"
            )


def has_own_settings(config: Any, num_axes: int) -> bool:
    """Whether the runs of a single axis have a setting each."""
    return num_axes == 1 and any(jnp.ndim(leaf) for leaf in jax.tree.leaves(config))


def over_runs(function: Callable, num_axes: int, seed_batch: int | None = None) -> Callable:
    """Maps `function(config, *per_run)` over the seed axis and then the setting axis.

    Args:
      function: Takes a config and then arguments that differ by run.
      num_axes: 0; 1 for seeds, which share a config or have a setting each of a stacked one; or 2
        for settings × seeds, with a stacked config.
      seed_batch: Seeds at once; None for all.
    """

    def over_seeds(config: Any, *per_run: Any) -> Any:
        has_own = has_own_settings(config, 1)  # of two axes the first is mapped by now

        def of_seed(own: tuple) -> Any:
            return function(*own) if has_own else function(config, *own)

        own = (config, *per_run) if has_own else per_run
        if seed_batch is None:
            return jax.vmap(of_seed)(own)
        return jax.lax.map(of_seed, own, batch_size=seed_batch)

    def mapped(config: Any, *per_run: Any) -> Any:
        if num_axes == 0:
            return function(config, *per_run)
        if num_axes == 1:
            return over_seeds(config, *per_run)
        return jax.vmap(over_seeds)(config, *per_run)

    return mapped


def side_by_side(configs: Sequence[Any], keys: Key) -> tuple[Any, Key]:
    """H settings with the keys (S,) of S seeds as N = H·S runs on one axis, the seeds of a setting
    next to each other: a config with leaves (N,), and keys (N,).

    Raises:
      InputError: if the configs differ in a static field (`config.stack`).
    """
    own = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(keys)), stack(configs))
    return own, jnp.tile(keys, len(configs))
