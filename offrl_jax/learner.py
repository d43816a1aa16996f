"""The learner: one compiled scan over steps, for one run, S seeds, or H settings × S seeds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import validate
from offrl_jax.data.dataset import Dataset, sample
from offrl_jax.types import InputError, Key, Metrics, Spec


def init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    """Fresh states. The shape of `key` sets the axes, as in `learn`.

    Raises:
      InputError: if the config has a value that the algorithm does not take, or the key is not one.
    """
    validate(config)
    _check_key(key)
    return _init(algorithm, config, spec, key)


@partial(jax.jit, static_argnames=("algorithm", "spec"))  # so that no two leaves share a buffer
def _init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    return over_runs(lambda config, key: algorithm.init(config, spec, key), key.ndim)(config, key)


@partial(jax.jit, static_argnames=("algorithm", "num_steps"), donate_argnames="state")
def learn(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, key: Key, *, num_steps: int
) -> tuple[Any, Metrics]:
    """Trains for `num_steps` updates in one dispatch.

    Each step folds `state.step` into its run's key, so 20 + 30 steps equal 50 bit for bit.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; with H settings, one whose float leaves have shape (H,) (`config.stack`).
      dataset: The data, shared by all runs.
      state: From `init` with the same `config` and shape of `key`; donated, so do not use it again.
      key: A typed key of shape () for one run, (S,) for seeds, or (H, S) for settings × seeds.
      num_steps: Updates; another number is another compile.

    Returns:
      The new state and the metrics' means over the steps, with the axes of `key` in front.

    Raises:
      InputError: if `num_steps` is not positive or the key is not one.
    """
    _check_key(key)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}; give at least one")

    def run(config: Any, state: Any, key: Key) -> tuple[Any, Metrics]:
        @jax.jit  # traced once for its shapes and once for the scan otherwise
        def step(state: Any) -> tuple[Any, Metrics]:
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, state.step))
            batch = sample(dataset, sample_key, config.batch_size)
            return algorithm.update(config, state, batch, update_key)

        def accumulate(carry: tuple[Any, Metrics], _: None) -> tuple[tuple[Any, Metrics], None]:
            state, total = carry
            state, metrics = step(state)
            return (state, jax.tree.map(jnp.add, total, metrics)), None

        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(step, state)[1])
        (state, total), _ = jax.lax.scan(accumulate, (state, zeros), length=num_steps)
        return state, jax.tree.map(lambda x: x / num_steps, total)

    return over_runs(run, key.ndim)(config, state, key)


def _check_key(key: Key) -> None:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f"the key has type {key.dtype}; make it with jax.random.key(seed)")


def over_runs(function: Callable, num_axes: int) -> Callable:
    """Maps `function(config, *per_run)` over the seed axis and then the setting axis.

    Args:
      function: Takes a config and then arguments that differ by run.
      num_axes: 0, 1 (seeds, one shared config) or 2 (settings, a stacked config, × seeds).
    """

    def mapped(config: Any, *per_run: Any) -> Any:
        call = function
        if num_axes >= 1:
            call = jax.vmap(call, in_axes=(None, *[0] * len(per_run)))
        if num_axes >= 2:
            call = jax.vmap(call, in_axes=(0, *[0] * len(per_run)))
        return call(config, *per_run)

    return mapped
