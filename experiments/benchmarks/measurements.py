"""Speed and memory of training: what `experiments.benchmarks.speed` measures of a case."""

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.matrix_products import TimedProduct
from experiments.benchmarks.operations import matrix_operations
from offrl_jax import data, learner
from offrl_jax.algorithms.base import Algorithm, phases_of
from offrl_jax.config import grid, stack
from offrl_jax.data import Dataset
from offrl_jax.types import Key

SECONDS = 0.5  # of a timed repeat, or a little more
CHUNKS = (1000, 500, 250, 200, 125, 100, 50, 40, 25, 20, 10, 8, 5, 4, 2, 1)  # divide relabel_every
EPISODE = 1000


def random_dataset(
    observation_size: int, action_size: int, num_transitions: int, *, discrete: bool = False
) -> Dataset:
    """Numbers without a meaning, in episodes of 1000 transitions, every other one with a true
    end."""
    rng = np.random.default_rng(0)
    n = num_transitions
    end = np.arange(1, n + 1) % EPISODE == 0
    terminal = end & (np.arange(1, n + 1) // EPISODE % 2 == 0)
    action = rng.integers(action_size, size=n) if discrete else rng.uniform(-1, 1, (n, action_size))
    return data.dataset_from_arrays(
        rng.normal(size=(n, observation_size)),
        action,
        rng.normal(size=n),
        terminal,
        timeout=end & ~terminal,
        next_observation=rng.normal(size=(n, observation_size)),
        num_actions=action_size if discrete else None,
        name="random",
    )


def update_operations(algorithm: Algorithm, config: Any, dataset: Dataset) -> float:
    """Operations of the matrix products in a compiled update of the last phase; of updates taken
    in turn their mean."""
    updates = phases_of(algorithm, config)[-1].updates
    arguments = update_arguments(algorithm, config, dataset)
    counts = {
        update: matrix_operations(jax.jit(update).lower(*arguments).compile())
        for update in set(updates)
    }
    return statistics.fmean(counts[update] for update in updates)


def update_arguments(algorithm: Algorithm, config: Any, dataset: Dataset) -> tuple[Any, ...]:
    """(config, state, batch, key) of an update, as shapes."""
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: algorithm.init(config, dataset.spec, key))
    batch = jax.eval_shape(lambda: data.sample(dataset, key, config.batch_size))
    return config, state, batch, key


def settings(config: Any, num_settings: int) -> Any:
    """The config itself, or several stacked that differ in a learning rate."""
    if num_settings == 1:
        return config
    names = (field.name for field in dataclasses.fields(config))
    name = next(name for name in names if name.endswith("learning_rate"))
    rate = getattr(config, name)
    return stack(grid(config, **{name: [rate / 2**i for i in range(num_settings)]}))


def run_keys(num_seeds: int, num_settings: int) -> Key:
    """(S,), or with several settings (H, S)."""
    keys = jax.random.split(jax.random.key(0), num_seeds)
    return keys if num_settings == 1 else jnp.broadcast_to(keys, (num_settings, num_seeds))


def measure(
    algorithm: Algorithm,
    config: Any,
    dataset: Dataset,
    key: Key,
    *,
    operations: float,
    product: TimedProduct,
    num_repeats: int,
) -> dict[str, Any]:
    """Compiles and times the last phase of training, from fresh states.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config, stacked where the key has settings.
      dataset: The data.
      key: As `learn` takes it.
      operations: Of the matrix products of an update of one run.
      product: What their rate is held against, timed before every repeat, since machines are not
        equally busy all the time.
      num_repeats: How often to time `SECONDS` or more of training.

    Returns:
      `updates_per_second` of all runs together, the median of `repeats`; `gflops`, of their matrix
      products; `product`, and `product_gflops` before each repeat; `fraction_of_product_rate`, the
      median of the ratios; `chunk`, updates a dispatch; `lower_seconds`, tracing included, and
      `compile_seconds`; `program_bytes`, what XLA planned: arguments, outputs and temporaries, less
      what shares memory; `device_peak_bytes`, the device's own word where it gives one and this
      case took more than all before it.
    """
    *earlier, last = phases_of(algorithm, config)
    cycle = len(last.updates)
    fitting = [d for d in CHUNKS if d % cycle == 0] or [cycle]
    # Chosen before anything is compiled, since another length is another program.
    most = SECONDS * product.rate() / (operations * key.size)
    chunk = next((d for d in fitting if d <= most), fitting[-1])
    peak = _device_peak()
    state = learner.init(algorithm, config, dataset.spec, key)
    start = sum(phase.num_steps for phase in earlier)
    state = jax.tree.map(lambda x: jnp.full_like(x, start) if x is state.step else x, state)

    clock = time.perf_counter()
    lowered = learner.lower(algorithm, config, dataset, state, key, num_steps=chunk)
    lower_seconds = time.perf_counter() - clock
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - clock - lower_seconds

    def seconds(dispatches: int) -> float:
        nonlocal state
        clock = time.perf_counter()
        for _ in range(dispatches):
            state, _ = learner.learn(algorithm, config, dataset, state, key, num_steps=chunk)
        jax.block_until_ready(state)
        return time.perf_counter() - clock

    seconds(1)  # the first one warms up
    dispatches = max(1, round(SECONDS / seconds(1)))
    updates = dispatches * chunk * key.size
    product_rates, repeats = [], []
    for _ in range(num_repeats):
        product_rates.append(product.rate())
        repeats.append(updates / seconds(dispatches))
    ratios = [operations * x / y for x, y in zip(repeats, product_rates, strict=True)]
    new_peak = _device_peak()
    return {
        "updates_per_second": statistics.median(repeats),
        "repeats": repeats,
        "gflops": statistics.median(repeats) * operations / 1e9,
        "product": str(product.product),
        "product_gflops": [rate / 1e9 for rate in product_rates],
        "fraction_of_product_rate": statistics.median(ratios),
        "chunk": chunk,
        "lower_seconds": lower_seconds,
        "compile_seconds": compile_seconds,
        "program_bytes": _program_bytes(compiled),
        "device_peak_bytes": new_peak if new_peak != peak else None,
    }


def _program_bytes(compiled: jax.stages.Compiled) -> int | None:
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    sizes = plan.argument_size_in_bytes, plan.output_size_in_bytes, plan.temp_size_in_bytes
    return sum(sizes) - plan.alias_size_in_bytes


def _device_peak() -> int | None:
    """Of the process so far."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
