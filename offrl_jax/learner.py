"""The learner: one compiled scan over steps, for one run, S seeds, or H settings × S seeds."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from offrl_jax.algorithms.base import Algorithm, Phase, check_actions, phases_of
from offrl_jax.backends import seed_mesh, updates_a_trip
from offrl_jax.config import validate
from offrl_jax.data.dataset import Dataset, sample
from offrl_jax.types import InputError, Key, Metrics, Spec


def init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    """Fresh states. The shape of `key` sets the axes, as in `learn`.

    Raises:
      InputError: if the config has a value that the algorithm does not take, the task's actions
        are of another kind than those it learns, or the key is not one.
    """
    validate(config)
    check_actions(algorithm, config, spec)
    _check_key(key)
    is_traced = isinstance(jnp.zeros(()), jax.core.Tracer)  # even where the key is a constant
    return (_init.__wrapped__ if is_traced else _init)(algorithm, config, spec.bare(), key)


# Compiled, so that no two leaves share a buffer, but not optimised: random numbers are unrolled for
# every layer, which LLVM spends seconds on for a program that runs once. JAX takes such options in
# no program that is part of another.
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
    dataset: Dataset,
    state: Any,
    key: Key,
    *,
    num_steps: int,
    seed_batch: int | None = None,
) -> tuple[Any, Metrics]:
    """Trains for `num_steps` updates in one dispatch, or one for each phase that they touch, or for
    each relabelling of the data.

    Each step folds `state.step` into its run's key, and where training has phases `state.step`
    decides which one it is in, so 20 + 30 steps equal 50: bit for bit, or to rounding where a call
    is of an odd length or starts inside a cycle of alternating updates, which is another program.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; with H settings, one whose float leaves have shape (H,) (`config.stack`).
      dataset: The data, shared by all runs.
      state: From `init` with the same `config` and shape of `key`; donated, so do not use it again.
      key: A typed key of shape () for one run, (S,) for seeds, or (H, S) for settings × seeds.
      num_steps: Updates; another number is another compile.
      seed_batch: How many of the S seeds to train at once, one batch after another, where memory
        holds no more; a divisor of S. Results are the same to rounding.

    With several CPU devices (`backends.use_cores`) and no `seed_batch` the seeds are dealt out to
    as many of them as divide S, to the same results but for rounding.

    Returns:
      The new state, and the mean of each metric over the steps that report it, with the axes of
      `key` in front.

    Raises:
      InputError: if `num_steps` is not positive, the key is not one, `seed_batch` does not divide
        S, or the algorithm cannot learn from these data.
    """
    _check_key(key)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}; give at least one")
    check_seed_batch(seed_batch, key.shape[-1] if key.ndim else 1)
    check_data(algorithm, config, dataset)
    mesh = _mesh(key, seed_batch)
    parts, (dataset, state, key) = [], _placed(mesh, dataset, state, key)
    for phase, length in _stretches(phases_of(algorithm, config), state, num_steps):
        state, *part = _learn(
            *(phase, config, dataset, state, key),
            num_steps=length,
            seed_batch=seed_batch,
            mesh=mesh,
        )
        parts.append(part)
    return state, parts[0][0] if len(parts) == 1 else _merged(parts)


def lower(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, key: Key, *, num_steps: int
) -> jax.stages.Lowered:
    """The first program that `learn` dispatches for the same arguments, to be looked at; compiled
    here, it is not compiled again there."""
    phase, length = _stretches(phases_of(algorithm, config), state, num_steps)[0]
    mesh = _mesh(key, None)
    arguments = _placed(mesh, dataset, state, key)
    return _learn.lower(phase, config, *arguments, num_steps=length, seed_batch=None, mesh=mesh)


def _stretches(phases: Sequence[Phase], state: Any, num_steps: int) -> list[tuple[Phase, int]]:
    """The next `num_steps` steps: phases whose updates are in the order to be taken, and how many
    steps of each."""
    if len(phases) == 1 and len(phases[0].updates) == 1 and phases[0].relabel_every is None:
        return [(phases[0], num_steps)]  # whatever the step, so `learn` can be traced
    if isinstance(state.step, jax.core.Tracer):
        raise InputError(
            "training in phases reads the step to choose its program, so `learn` cannot be traced "
            "for this algorithm; call it outside of jax.jit and jax.vmap"
        )
    start = step = int(jnp.ravel(state.step)[0])  # of all steps; of the phase's
    stretches = []
    for phase in phases:
        length = math.inf if phase.num_steps is None else phase.num_steps
        while num_steps > 0 and step < length:
            taken = min(length - step, num_steps)
            if phase.relabel_every is not None:
                taken = min(taken, phase.relabel_every - start % phase.relabel_every)
            first = step % len(phase.updates)
            turned = phase.updates[first:] + phase.updates[:first]
            stretches.append((phase._replace(updates=turned, num_steps=None), taken))
            start, step, num_steps = start + taken, step + taken, num_steps - taken
        step = max(step - length, 0)
    return stretches


@partial(
    jax.jit,
    static_argnames=("phase", "num_steps", "seed_batch", "mesh"),
    donate_argnames="state",
)
def _learn(
    phase: Phase,
    config: Any,
    dataset: Dataset,
    state: Any,
    key: Key,
    *,
    num_steps: int,
    seed_batch: int | None,
    mesh: jax.sharding.Mesh | None,
) -> tuple[Any, Metrics, Metrics]:
    """`num_steps` steps of the phase's updates in turn: the state, the metrics' means, and over how
    many steps each was taken."""
    updates = phase.updates

    def run(dataset: Dataset, config: Any, state: Any, key: Key) -> tuple[Any, Metrics, Metrics]:
        data = dataset
        if phase.relabel is not None:
            state, data = phase.relabel(config, state, dataset)

        def compiled(update: Callable) -> Callable:
            @jax.jit  # traced once for its metrics and once for the scan otherwise
            def step(state: Any) -> tuple[Any, Metrics]:
                sample_key, update_key = jax.random.split(jax.random.fold_in(key, state.step))
                batch = sample(data, sample_key, config.batch_size)
                return update(config, state, batch, update_key)

            return step

        steps = {update: compiled(update) for update in updates}

        def take(carry: tuple[Any, Metrics], updates: Sequence[Callable]) -> tuple[Any, Metrics]:
            state, total = carry
            for update in updates:
                state, metrics = steps[update](state)
                total = total | {name: total[name] + metrics[name] for name in metrics}
            return state, total

        cycles, rest = divmod(num_steps, len(updates))
        taken = updates * min(cycles, 1) + updates[:rest]
        reported = {update: jax.eval_shape(steps[update], state)[1] for update in taken}
        carry = state, {n: jnp.zeros_like(x) for r in reported.values() for n, x in r.items()}
        if cycles:
            unroll = max(1, updates_a_trip() // len(updates))
            carry, _ = jax.lax.scan(
                lambda c, _: (take(c, updates), None), carry, length=cycles, unroll=unroll
            )
        state, total = take(carry, updates[:rest])
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

    def runs(dataset: Dataset, config: Any, state: Any, key: Key) -> tuple[Any, Metrics, Metrics]:
        return over_runs(partial(run, dataset), key.ndim, seed_batch)(config, state, key)

    if mesh is not None:
        everywhere, own = PartitionSpec(), _by_seed(key)
        in_specs = everywhere, everywhere, own, own
        runs = jax.shard_map(runs, mesh=mesh, in_specs=in_specs, out_specs=own, check_vma=False)
    return runs(dataset, config, state, key)


def _mesh(key: Key, seed_batch: int | None) -> jax.sharding.Mesh | None:
    """Over what devices the seeds of this key are dealt out, None for one."""
    if key.ndim == 0 or seed_batch is not None or isinstance(key, jax.core.Tracer):
        return None
    return seed_mesh(key.shape[-1])


def _placed(
    mesh: jax.sharding.Mesh | None, dataset: Dataset, state: Any, key: Key
) -> tuple[Dataset, Any, Key]:
    """What `_learn` takes, where it takes it: the data on every device, each seed on its own."""
    dataset = dataset.bare()
    if mesh is None:
        return dataset, state, key
    by_seed = NamedSharding(mesh, _by_seed(key))
    return _everywhere(dataset, mesh), *jax.device_put((state, key), by_seed)


def replicated(dataset: Dataset, key: Key, seed_batch: int | None = None) -> Dataset:
    """The dataset on every device that `learn` with this key deals seeds to, so that many calls of
    it share one copy."""
    mesh = _mesh(key, seed_batch)
    return dataset if mesh is None else _everywhere(dataset, mesh)


def _everywhere(dataset: Dataset, mesh: jax.sharding.Mesh) -> Dataset:
    return jax.device_put(dataset, NamedSharding(mesh, PartitionSpec()))


def _by_seed(key: Key) -> PartitionSpec:
    return PartitionSpec(*[None] * (key.ndim - 1), "seed")


def _merged(parts: Sequence[tuple[Metrics, Metrics]]) -> Metrics:
    """Means over several stretches from each one's means and counts."""
    merged = {}
    for name in dict.fromkeys(name for means, _ in parts for name in means):
        having = [(means[name], counts[name]) for means, counts in parts if name in means]
        merged[name] = sum(m * n for m, n in having) / sum(n for _, n in having)
    return merged


def check_data(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Raises InputError where the algorithm says that it cannot learn from these data. Of what is
    traced nothing is known, and nothing said."""
    known = not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((config, dataset)))
    if algorithm.check is not None and known:
        algorithm.check(config, dataset)


def check_seed_batch(seed_batch: int | None, num_seeds: int) -> None:
    """Raises InputError unless `seed_batch` is None or divides the number of seeds."""
    if seed_batch is not None and (seed_batch < 1 or num_seeds % seed_batch):
        good = [d for d in range(1, num_seeds) if num_seeds % d == 0]
        raise InputError(
            f"seed_batch={seed_batch} does not divide {num_seeds} seeds; "
            f"{' or '.join(map(str, good)) or 'leaving it out'} would do"
        )


def _check_key(key: Key) -> None:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f"the key has type {key.dtype}; make it with jax.random.key(seed)")


def over_runs(function: Callable, num_axes: int, seed_batch: int | None = None) -> Callable:
    """Maps `function(config, *per_run)` over the seed axis and then the setting axis.

    Args:
      function: Takes a config and then arguments that differ by run.
      num_axes: 0, 1 (seeds, one shared config) or 2 (settings, a stacked config, × seeds).
      seed_batch: Seeds at once; None for all.
    """

    def over_seeds(config: Any, *per_run: Any) -> Any:
        if seed_batch is None:
            return jax.vmap(partial(function, config))(*per_run)
        return jax.lax.map(lambda one: function(config, *one), per_run, batch_size=seed_batch)

    def mapped(config: Any, *per_run: Any) -> Any:
        if num_axes == 0:
            return function(config, *per_run)
        if num_axes == 1:
            return over_seeds(config, *per_run)
        return jax.vmap(over_seeds)(config, *per_run)

    return mapped
