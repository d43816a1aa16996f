"""The learner: one compiled scan over steps, for one run, S seeds, H settings × S seeds, or N runs
with a setting each."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from offrl_jax import devices
from offrl_jax.algorithms.base import (
    Algorithm,
    Batch,
    Phase,
    check_actions,
    check_config,
    phases_of,
    pieces,
    stretches,
)
from offrl_jax.algorithms.states import check_alive, misfit_explained
from offrl_jax.axes import check_stack, has_own_settings, over_runs
from offrl_jax.config import validate
from offrl_jax.data.dataset import Data, Dataset, sample, step_keys
from offrl_jax.data.streaming.feed import Batches, Feed, fields_read
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.types import Array, InputError, Int, Key, Metrics, Spec

BRIEF_MEMORY_MB = 64  # for batches where `learn` is given data in host memory


def init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    """Fresh states. The shape of `key` sets the axes, as in `learn`.

    Raises:
      InputError: if the config is another algorithm's or has an invalid value, the algorithm does
        not learn actions of the task's kind, or `key` is not a typed key.
    """
    check_config(algorithm, config)
    validate(config)
    check_actions(algorithm, config, spec)
    _check_key(key)
    check_stack(config, key)
    is_traced = isinstance(jnp.zeros(()), jax.core.Tracer)  # even where the key is a constant
    return (_init.__wrapped__ if is_traced else _init)(algorithm, config, spec.bare(), key)


# Compiled, so that no two leaves share a buffer, but not optimised: random numbers are unrolled for
# every layer, which LLVM spends seconds on for a program that runs once. JAX does not take such
# options in a program that is part of another.
@partial(
    jax.jit,
    static_argnames=("algorithm", "spec"),
    compiler_options={"xla_backend_optimization_level": 0},
)
def _init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    return over_runs(lambda config, key: algorithm.init(config, spec, key), key.ndim)(config, key)


def learn(
    algorithm: Algorithm,
    config: Any,
    dataset: Data | Feed,
    state: Any,
    key: Key,
    *,
    num_steps: int,
    seed_batch: int | None = None,
    matmul_precision: str = "default",
) -> tuple[Any, Metrics]:
    """Trains for `num_steps` updates in one dispatch. Phases, relabelling of the data and a `Feed`
    take one dispatch for each phase, relabelling and piece of batches.

    Each step folds `state.step` into its run's key, and `state.step` selects the phase of training,
    so 20 + 30 steps equal 50: bit for bit, or to rounding where a call has an odd length or starts
    inside a cycle of alternating updates, which is another program.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; with H settings, one whose float leaves have shape (H,) (`config.stack`).
      dataset: The data, shared by all runs; or a `feed` of data in host memory, made for the same
        config, key and `seed_batch`. Results are the same to rounding.
      state: From `init` with the same `config` and shape of `key`; donated, so do not use it again.
      key: A typed key of shape () for one run, (S,) for seeds, or (H, S) for settings × seeds. With
        shape (S,) and a stacked config of H = S each run has its own setting (`axes.side_by_side`).
      num_steps: Number of updates; another number compiles again.
      seed_batch: Number of seeds to train at once if memory does not hold all S; must divide S.
        Results are the same to rounding.
      matmul_precision: One of `devices.MATMUL_PRECISIONS`. "default": JAX's setting. "float32":
        full precision. "bfloat16": hidden layers in bfloat16, products summed in float32.
        Parameters, optimisers, networks' outputs and losses are float32 in all three.

    With several devices and no `seed_batch`, each device trains the same number of seeds, with the
    same results to rounding (`devices.seed_mesh`).

    Returns:
      The new state, and the mean of each metric over the steps that report it, with the axes of
      `key` in front.

    Raises:
      InputError: if `num_steps` is not positive, `key` is not a typed key, `seed_batch` does not
        divide S, the precision is unknown, the state is donated already or of another algorithm,
        config or key, or the algorithm cannot learn from these data.
    """
    check_config(algorithm, config)
    _check_key(key)
    check_alive(state)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}; give at least one")
    check_seed_batch(seed_batch, key.shape[-1] if key.ndim else 1)
    devices.check_matmul_precision(matmul_precision)
    check_stack(config, key)
    wanted = partial(init, algorithm, config, dataset.spec, key)
    with contextlib.ExitStack() as stack:
        stack.enter_context(misfit_explained(algorithm, state, wanted))
        if isinstance(dataset, HostDataset | Feed) and isinstance(state.step, jax.core.Tracer):
            raise InputError(
                "data in host memory is fed to programs from outside, so `learn` cannot be traced "
                "with it; call it outside of jax.jit and jax.vmap"
            )
        if isinstance(dataset, HostDataset):
            dataset = feed(
                algorithm, config, dataset, key, seed_batch=seed_batch, memory_mb=BRIEF_MEMORY_MB
            )
            stack.callback(dataset.close)
        return _dispatched(
            algorithm,
            config,
            dataset,
            state=state,
            key=key,
            num_steps=num_steps,
            seed_batch=seed_batch,
            matmul_precision=matmul_precision,
        )


def _dispatched(
    algorithm: Algorithm,
    config: Any,
    dataset: Dataset | Feed,
    *,
    state: Any,
    key: Key,
    num_steps: int,
    seed_batch: int | None,
    matmul_precision: str,
) -> tuple[Any, Metrics]:
    """`learn` with checked arguments. Data in host memory comes as a `Feed`."""
    mesh = _mesh(key, seed_batch)
    num_seeds = key.shape[-1] if key.ndim else 1
    parts = stretches(phases_of(algorithm, config), state, num_steps)
    is_fed = isinstance(dataset, Feed)
    if is_fed:
        dataset.check((algorithm, jax.tree.structure(config), seed_batch), key)
        parts = pieces(parts, dataset.most_steps)
        step = int(jnp.ravel(state.step)[0])
    else:
        check_data(algorithm, config, dataset)
        rows = devices.replicate(mesh, dataset.bare())
    found, (config, state, key) = [], _placed(mesh, config, state, key)
    static = {"batch": algorithm.batch, "seed_batch": seed_batch, "mesh": mesh}
    for i, (phase, length) in enumerate(parts):
        if is_fed:
            rows = dataset.take(step, length)
        with devices.MATMUL_PRECISIONS[matmul_precision]():
            state, *means_and_counts = _learn(
                phase, config, rows, state, key, num_steps=length, **static
            )
        if is_fed:  # the next call probably begins like this one
            step += length
            dataset.prepare(step, parts[(i + 1) % len(parts)][1], means_and_counts)
        found.append(means_and_counts)
    metrics = found[0][0] if len(found) == 1 else _merged(found)
    if mesh is not None and num_seeds % mesh.size:
        return devices.drop_copies(num_seeds, key.ndim - 1, (state, metrics))
    return state, metrics


def lower(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, key: Key, *, num_steps: int
) -> jax.stages.Lowered:
    """The first program that `learn` dispatches for the same arguments and data on the device, for
    inspection; if you compile it, `learn` does not compile it again."""
    phase, length = stretches(phases_of(algorithm, config), state, num_steps)[0]
    mesh = _mesh(key, None)
    config, state, key = _placed(mesh, config, state, key)
    rows = devices.replicate(mesh, dataset.bare())
    static = {"batch": algorithm.batch, "num_steps": length, "seed_batch": None, "mesh": mesh}
    return _learn.lower(phase, config, rows, state, key, **static)


@partial(
    jax.jit,
    static_argnames=("phase", "batch", "num_steps", "seed_batch", "mesh"),
    donate_argnames="state",
)
def _learn(
    phase: Phase,
    config: Any,
    rows: Dataset | Batches,
    state: Any,
    key: Key,
    *,
    batch: Batch | None,
    num_steps: int,
    seed_batch: int | None,
    mesh: jax.sharding.Mesh | None,
) -> tuple[Any, Metrics, Metrics]:
    """`num_steps` steps of the phase's updates in turn: the state, the metrics' means, and the
    number of steps behind each mean."""
    updates = phase.updates

    def run(
        config: Any, state: Any, key: Key, rows: Dataset | Batches
    ) -> tuple[Any, Metrics, Metrics]:
        if phase.relabel is not None:
            state, rows = phase.relabel(config, state, rows)

        def compiled(update: Callable) -> Callable:
            @jax.jit  # else traced twice: for its metrics and for the scan
            def step(state: Any, i: Int[Array, ""]) -> tuple[Any, Metrics]:
                sample_key, update_key = step_keys(key, state.step)
                if isinstance(rows, Batches):
                    drawn = rows.at(i)
                elif batch is not None:
                    drawn = batch.sample(config, rows, sample_key)
                else:
                    drawn = sample(rows, sample_key, config.batch_size)
                return update(config, state, drawn, update_key)

            return step

        steps = {update: compiled(update) for update in updates}

        def take(
            carry: tuple[Any, Metrics], updates: Sequence[Callable], first: Int[Array, ""]
        ) -> tuple[Any, Metrics]:
            state, total = carry
            for i, update in enumerate(updates):
                state, metrics = steps[update](state, first + i)
                total = total | {name: total[name] + metrics[name] for name in metrics}
            return state, total

        cycles, rest = divmod(num_steps, len(updates))
        taken = updates * min(cycles, 1) + updates[:rest]
        reported = {
            update: jax.eval_shape(steps[update], state, jnp.int32(0))[1] for update in taken
        }
        carry = state, {n: jnp.zeros_like(x) for r in reported.values() for n, x in r.items()}
        if cycles:
            unroll = max(1, devices.updates_a_trip() // len(updates))
            firsts = jnp.arange(cycles, dtype=jnp.int32) * len(updates)
            carry, _ = jax.lax.scan(
                lambda c, first: (take(c, updates, first), None), carry, firsts, unroll=unroll
            )
        state, total = take(carry, updates[:rest], jnp.int32(cycles * len(updates)))
        counts = {
            name: jnp.float32(
                sum(
                    (cycles + (i < rest)) * (name in reported.get(update, ()))
                    for i, update in enumerate(updates)
                )
            )
            for name in total
        }
        return state, {name: total[name] / counts[name] for name in total}, counts

    is_fed = isinstance(rows, Batches)

    def runs(
        config: Any, state: Any, key: Key, rows: Dataset | Batches
    ) -> tuple[Any, Metrics, Metrics]:
        if is_fed:
            return over_runs(run, key.ndim, seed_batch)(config, state, key, rows)
        return over_runs(partial(run, rows=rows), key.ndim, seed_batch)(config, state, key)

    if mesh is not None:
        everywhere, own = PartitionSpec(), devices.by_seed(key)
        by_setting = own if has_own_settings(config, key.ndim) else everywhere
        in_specs = (by_setting, own, own, own if is_fed else everywhere)
        runs = jax.shard_map(runs, mesh=mesh, in_specs=in_specs, out_specs=own, check_vma=False)
    return runs(config, state, key, rows)


def _mesh(key: Key, seed_batch: int | None) -> jax.sharding.Mesh | None:
    """The devices that share the seeds of this key; None for a single one."""
    if key.ndim == 0 or seed_batch is not None or isinstance(key, jax.core.Tracer):
        return None
    return devices.seed_mesh(key.shape[-1])


def _placed(
    mesh: jax.sharding.Mesh | None, config: Any, state: Any, key: Key
) -> tuple[Any, Any, Key]:
    """The arguments of `_learn`, placed on its devices."""
    if mesh is None:
        return config, state, key
    if has_own_settings(config, key.ndim):
        config = devices.distribute(mesh, key, config)
    return config, *devices.distribute(mesh, key, (state, key))


def replicated(dataset: Dataset, key: Key, seed_batch: int | None = None) -> Dataset:
    """The dataset on every device that trains seeds of this key, so that many calls of `learn`
    share one copy."""
    return devices.replicate(_mesh(key, seed_batch), dataset)


def feed(
    algorithm: Algorithm,
    config: Any,
    dataset: HostDataset,
    key: Key,
    *,
    memory_mb: int,
    seed_batch: int | None = None,
) -> Feed:
    """Feeds batches of data in host memory to any number of calls of `learn`; close it after them.

    Args:
      algorithm: As for `learn`; only the fields that its updates read are gathered.
      config: As for `learn`.
      dataset: The data.
      key: As for `learn`.
      memory_mb: Memory for batches, including those in training.
      seed_batch: As for `learn`.

    Raises:
      InputError: if the algorithm cannot learn from these data, or the memory is too small.
    """
    check_data(algorithm, config, dataset)
    mesh = _mesh(key, seed_batch)
    place = jax.device_put if mesh is None else partial(devices.distribute, mesh, key)
    one_config, one_key = jax.tree.map(lambda leaf: jnp.ravel(leaf)[0], (config, key))
    spec = dataset.spec.bare()
    state = jax.eval_shape(lambda: algorithm.init(one_config, spec, one_key))
    updates = {update for phase in phases_of(algorithm, one_config) for update in phase.updates}
    fields = fields_read(updates, one_config, state, spec, one_key)
    purpose = algorithm, jax.tree.structure(config), seed_batch
    return Feed(dataset, key, config.batch_size, fields, place, memory_mb, purpose)


def _merged(parts: Sequence[tuple[Metrics, Metrics]]) -> Metrics:
    """Means over several stretches from the means and counts of each."""
    merged = {}
    for name in dict.fromkeys(name for means, _ in parts for name in means):
        having = [(means[name], counts[name]) for means, counts in parts if name in means]
        merged[name] = sum(m * n for m, n in having) / sum(n for _, n in having)
    return merged


def check_data(algorithm: Algorithm, config: Any, dataset: Data) -> None:
    """Raises InputError if the algorithm cannot learn from the data, or if it relabels rows or
    samples its own batches and the data is in host memory. Traced values are not checked."""
    if isinstance(dataset, HostDataset) and any(
        phase.relabel is not None for phase in phases_of(algorithm, config)
    ):
        raise InputError(
            f"{algorithm.name} with this config relabels all rows of its data, which is not "
            f"possible for {dataset.spec.name} in host memory; give placement=device, or another "
            "algorithm"
        )
    if isinstance(dataset, HostDataset) and algorithm.batch is not None:
        raise InputError(
            f"{algorithm.name} samples its own batches, which is not possible for "
            f"{dataset.spec.name} in host memory; give placement=device"
        )
    known = not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((config, dataset)))
    if algorithm.check is not None and known:
        algorithm.check(config, dataset)


def check_seed_batch(seed_batch: int | None, num_seeds: int) -> None:
    """Raises InputError unless `seed_batch` is None or divides the number of seeds."""
    if seed_batch is not None and (seed_batch < 1 or num_seeds % seed_batch):
        good = [d for d in range(1, num_seeds) if num_seeds % d == 0]
        raise InputError(
            f"seed_batch={seed_batch} does not divide {num_seeds} runs; "
            f"{' or '.join(map(str, good)) or 'leaving it out'} would work"
        )


def _check_key(key: Key) -> None:
    dtype = getattr(key, "dtype", type(key))
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise InputError(f"the key has type {dtype}; make it with jax.random.key(seed)")
