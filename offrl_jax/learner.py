"""The learner: one compiled scan over steps, for one run, S seeds, H settings × S seeds, or N runs
that each have a setting of their own."""

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from offrl_jax.algorithms.base import Algorithm, Phase, check_actions, phases_of
from offrl_jax.config import stack, validate
from offrl_jax.data.dataset import Data, Dataset, sample, step_keys
from offrl_jax.data.streaming.feed import Batches, Feed
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import width
from offrl_jax.devices import seed_mesh, updates_a_trip
from offrl_jax.networks.modules import BFLOAT16
from offrl_jax.types import Array, InputError, Int, Key, Metrics, Spec, Transition

BRIEF_MEMORY_MB = 64  # for batches where `learn` is given data in host memory

MATMUL_PRECISIONS: dict[str, Callable] = {
    "default": contextlib.nullcontext,
    "float32": partial(jax.default_matmul_precision, "float32"),
    "bfloat16": partial(jax.default_matmul_precision, BFLOAT16),
}


def init(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> Any:
    """Fresh states. The shape of `key` sets the axes, as in `learn`.

    Raises:
      InputError: if the config has a value that the algorithm does not take, the task's actions
        are of another kind than those it learns, or the key is not one.
    """
    validate(config)
    check_actions(algorithm, config, spec)
    _check_key(key)
    _check_stack(config, key)
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
    dataset: Data | Feed,
    state: Any,
    key: Key,
    *,
    num_steps: int,
    seed_batch: int | None = None,
    matmul_precision: str = "default",
) -> tuple[Any, Metrics]:
    """Trains for `num_steps` updates in one dispatch, or one for each phase that they touch, or for
    each relabelling of the data, or for each piece of batches that a `Feed` has.

    Each step folds `state.step` into its run's key, and where training has phases `state.step`
    decides which one it is in, so 20 + 30 steps equal 50: bit for bit, or to rounding where a call
    is of an odd length or starts inside a cycle of alternating updates, which is another program.

    Args:
      algorithm: One of `offrl_jax.ALGORITHMS`.
      config: Its config; with H settings, one whose float leaves have shape (H,) (`config.stack`).
      dataset: The data, shared by all runs; or what feeds batches of data in host memory (`feed`),
        made of the same config, key and `seed_batch`, for results that are the same to rounding.
      state: From `init` with the same `config` and shape of `key`; donated, so do not use it again.
      key: A typed key of shape () for one run, (S,) for seeds, or (H, S) for settings × seeds. With
        shape (S,) and a stacked config of H = S each run has a setting of its own (`side_by_side`).
      num_steps: Updates; another number is another compile.
      seed_batch: How many of the S seeds to train at once, one batch after another, where memory
        holds no more; a divisor of S. Results are the same to rounding.
      matmul_precision: One of `MATMUL_PRECISIONS`: "default", as JAX is set, the backend's own if
        it is not; "float32", in full; "bfloat16", in which hidden layers are computed, and products
        summed in float32. Parameters, optimisers, what networks give and losses are float32.

    With several devices and no `seed_batch` the seeds are dealt out to them, to the same results
    but for rounding: to as many as `backends.seed_mesh` says, each of which gets as many, the last
    ones perhaps copies of the last seed whose results are dropped.

    Returns:
      The new state, and the mean of each metric over the steps that report it, with the axes of
      `key` in front.

    Raises:
      InputError: if `num_steps` is not positive, the key is not one, `seed_batch` does not divide
        S, there is no such precision, or the algorithm cannot learn from these data.
    """
    _check_key(key)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}; give at least one")
    check_seed_batch(seed_batch, key.shape[-1] if key.ndim else 1)
    check_matmul_precision(matmul_precision)
    _check_stack(config, key)
    if isinstance(dataset, HostDataset | Feed) and isinstance(state.step, jax.core.Tracer):
        raise InputError(
            "data in host memory are fed to programs from outside, so `learn` cannot be traced "
            "with them; call it outside of jax.jit and jax.vmap"
        )
    if isinstance(dataset, HostDataset):
        brief = feed(
            *(algorithm, config, dataset, key), seed_batch=seed_batch, memory_mb=BRIEF_MEMORY_MB
        )
        options = {
            "num_steps": num_steps,
            "seed_batch": seed_batch,
            "matmul_precision": matmul_precision,
        }
        with contextlib.closing(brief):
            return learn(algorithm, config, brief, state, key, **options)
    mesh = _mesh(key, seed_batch)
    num_seeds = key.shape[-1] if key.ndim else 1
    stretches = _stretches(phases_of(algorithm, config), state, num_steps)
    is_fed = isinstance(dataset, Feed)
    if is_fed:
        dataset.check(_purpose(algorithm, config, seed_batch), key)
        stretches = _pieces(stretches, dataset.most_steps)
        step = int(jnp.ravel(state.step)[0])
    else:
        check_data(algorithm, config, dataset)
        rows = _everywhere(dataset.bare(), mesh)
    parts, (config, state, key) = [], _placed(mesh, config, state, key)
    for i, (phase, length) in enumerate(stretches):
        if is_fed:
            rows = dataset.take(step, length)
        with MATMUL_PRECISIONS[matmul_precision]():
            state, *part = _learn(
                *(phase, config, rows, state, key),
                num_steps=length,
                seed_batch=seed_batch,
                mesh=mesh,
            )
        if is_fed:  # the next call is likely to begin as this one did
            step += length
            dataset.prepare(step, stretches[(i + 1) % len(stretches)][1], part)
        parts.append(part)
    metrics = parts[0][0] if len(parts) == 1 else _merged(parts)
    if mesh is not None and num_seeds % mesh.size:
        return _first(num_seeds, key.ndim - 1, (state, metrics))
    return state, metrics


def lower(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, key: Key, *, num_steps: int
) -> jax.stages.Lowered:
    """The first program that `learn` dispatches for the same arguments, the data on the device, to
    be looked at; compiled here, it is not compiled again there."""
    phase, length = _stretches(phases_of(algorithm, config), state, num_steps)[0]
    mesh = _mesh(key, None)
    config, state, key = _placed(mesh, config, state, key)
    rows = _everywhere(dataset.bare(), mesh)
    arguments = phase, config, rows, state, key
    return _learn.lower(*arguments, num_steps=length, seed_batch=None, mesh=mesh)


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


def _pieces(stretches: list[tuple[Phase, int]], most: int) -> list[tuple[Phase, int]]:
    """The stretches in pieces of at most so many steps, equal ones of whole cycles of updates where
    that can be."""
    pieces = []
    for phase, length in stretches:
        cycle = len(phase.updates)
        unit = cycle if cycle <= most else 1
        num_pieces = -(-length // (most // unit * unit))
        size = -(-length // (num_pieces * unit)) * unit
        for start in range(0, length, size):
            first = start % cycle
            turned = phase.updates[first:] + phase.updates[:first]
            pieces.append((phase._replace(updates=turned), min(size, length - start)))
    return pieces


@partial(
    jax.jit,
    static_argnames=("phase", "num_steps", "seed_batch", "mesh"),
    donate_argnames="state",
)
def _learn(
    phase: Phase,
    config: Any,
    rows: Dataset | Batches,
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

    def run(
        config: Any, state: Any, key: Key, rows: Dataset | Batches
    ) -> tuple[Any, Metrics, Metrics]:
        if phase.relabel is not None:
            state, rows = phase.relabel(config, state, rows)

        def compiled(update: Callable) -> Callable:
            @jax.jit  # traced once for its metrics and once for the scan otherwise
            def step(state: Any, i: Int[Array, ""]) -> tuple[Any, Metrics]:
                sample_key, update_key = step_keys(key, state.step)
                if isinstance(rows, Batches):
                    batch = rows.at(i)
                else:
                    batch = sample(rows, sample_key, config.batch_size)
                return update(config, state, batch, update_key)

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
            unroll = max(1, updates_a_trip() // len(updates))
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
        everywhere, own = PartitionSpec(), _by_seed(key)
        in_specs = (
            *(own if _is_by_run(config, key.ndim) else everywhere, own, own),
            own if is_fed else everywhere,
        )
        runs = jax.shard_map(runs, mesh=mesh, in_specs=in_specs, out_specs=own, check_vma=False)
    return runs(config, state, key, rows)


def _mesh(key: Key, seed_batch: int | None) -> jax.sharding.Mesh | None:
    """Over what devices the seeds of this key are dealt out; None for one."""
    if key.ndim == 0 or seed_batch is not None or isinstance(key, jax.core.Tracer):
        return None
    return seed_mesh(key.shape[-1])


def _placed(
    mesh: jax.sharding.Mesh | None, config: Any, state: Any, key: Key
) -> tuple[Any, Any, Key]:
    """What `_learn` takes, where it takes it: each seed on its own device, and copies of the last
    one where the devices would not have as many each."""
    if mesh is None:
        return config, state, key
    if _is_by_run(config, key.ndim):
        config = _dealt(mesh, key, config)
    return config, *_dealt(mesh, key, (state, key))


def _dealt(mesh: jax.sharding.Mesh, key: Key, tree: Any) -> Any:
    """What the runs of this key have, on their devices."""
    num_seeds, axis = key.shape[-1], key.ndim - 1
    index = np.minimum(np.arange(num_seeds + -num_seeds % mesh.size), num_seeds - 1)
    if len(index) > num_seeds:
        tree = jax.tree.map(lambda x: x[(*[slice(None)] * axis, index)], tree)
    return jax.device_put(tree, NamedSharding(mesh, _by_seed(key)))


@partial(jax.jit, static_argnums=(0, 1))
def _first(num_seeds: int, axis: int, tree: Any) -> Any:
    """The results of so many seeds, without those of the copies that came after them."""
    return jax.tree.map(lambda x: x[(*[slice(None)] * axis, slice(num_seeds))], tree)


def replicated(dataset: Dataset, key: Key, seed_batch: int | None = None) -> Dataset:
    """The dataset on every device that `learn` with this key deals seeds to, so that many calls of
    it share one copy."""
    return _everywhere(dataset, _mesh(key, seed_batch))


def _everywhere(dataset: Dataset, mesh: jax.sharding.Mesh | None) -> Dataset:
    if mesh is None:
        return dataset
    return jax.device_put(dataset, NamedSharding(mesh, PartitionSpec()))


def feed(
    algorithm: Algorithm,
    config: Any,
    dataset: HostDataset,
    key: Key,
    *,
    memory_mb: int,
    seed_batch: int | None = None,
) -> Feed:
    """What feeds `learn` with batches of data in host memory, over as many calls as follow on; to
    be closed after them.

    Args:
      algorithm: As for `learn`; of a batch only what its updates read is gathered.
      config: As for `learn`.
      dataset: The data.
      key: As for `learn`.
      memory_mb: For batches, those that are trained on included.
      seed_batch: As for `learn`.

    Raises:
      InputError: if the algorithm cannot learn from these data, or the memory is too small.
    """
    check_data(algorithm, config, dataset)
    mesh = _mesh(key, seed_batch)
    place = jax.device_put if mesh is None else partial(_dealt, mesh, key)
    fields = _fields_read(algorithm, config, dataset.spec.bare(), key)
    purpose = _purpose(algorithm, config, seed_batch)
    return Feed(dataset, key, config.batch_size, fields, place, memory_mb, purpose)


def _purpose(algorithm: Algorithm, config: Any, seed_batch: int | None) -> tuple:
    """What decides which batches are taken, and where."""
    return algorithm, jax.tree.structure(config), seed_batch


def _fields_read(algorithm: Algorithm, config: Any, spec: Spec, key: Key) -> list[str]:
    """The fields of a batch that some update reads."""
    config = jax.tree.map(lambda leaf: jnp.ravel(leaf)[0], config)  # of any run
    key = jnp.ravel(key)[0]
    state = jax.eval_shape(lambda: algorithm.init(config, spec, key))
    blank = Transition(
        *(jnp.zeros((config.batch_size, *width(spec, f))) for f in Transition._fields)
    )
    updates = {update for phase in phases_of(algorithm, config) for update in phase.updates}
    read = set()
    for update in updates:
        program = jax.make_jaxpr(lambda b, s, u=update: u(config, s, b, key))(blank, state).jaxpr
        used = {id(v) for equation in program.eqns for v in equation.invars}
        used |= {id(v) for v in program.outvars}
        fields = zip(Transition._fields, program.invars, strict=False)
        read |= {field for field, variable in fields if id(variable) in used}
    return [field for field in Transition._fields if field in read]


def _by_seed(key: Key) -> PartitionSpec:
    return PartitionSpec(*[None] * (key.ndim - 1), "seed")


def _merged(parts: Sequence[tuple[Metrics, Metrics]]) -> Metrics:
    """Means over several stretches from each one's means and counts."""
    merged = {}
    for name in dict.fromkeys(name for means, _ in parts for name in means):
        having = [(means[name], counts[name]) for means, counts in parts if name in means]
        merged[name] = sum(m * n for m, n in having) / sum(n for _, n in having)
    return merged


def check_data(algorithm: Algorithm, config: Any, dataset: Data) -> None:
    """Raises InputError where the algorithm says that it cannot learn from these data, or relabels
    all rows of data that are not on the device. Of what is traced nothing is known, and nothing
    said."""
    if isinstance(dataset, HostDataset) and any(
        phase.relabel is not None for phase in phases_of(algorithm, config)
    ):
        raise InputError(
            f"{algorithm.name} so configured relabels all rows of its data, which those of "
            f"{dataset.spec.name} in host memory cannot be; give placement=device, or "
            "another algorithm"
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
            f"{' or '.join(map(str, good)) or 'leaving it out'} would do"
        )


def check_matmul_precision(matmul_precision: str) -> None:
    """Raises InputError if there is no such precision."""
    if matmul_precision not in MATMUL_PRECISIONS:
        raise InputError(
            f"matmul_precision={matmul_precision!r} is not one of {', '.join(MATMUL_PRECISIONS)}"
        )


def _check_key(key: Key) -> None:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f"the key has type {key.dtype}; make it with jax.random.key(seed)")


def side_by_side(configs: Sequence[Any], keys: Key) -> tuple[Any, Key]:
    """H settings with the keys (S,) of S seeds as N = H·S runs on one axis, the seeds of a setting
    next to each other: a config with leaves (N,), and keys (N,).

    Raises:
      InputError: if the configs differ in a static field (`config.stack`).
    """
    own = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(keys)), stack(configs))
    return own, jnp.tile(keys, len(configs))


def _check_stack(config: Any, key: Key) -> None:
    """Raises InputError unless a stacked config has a setting for each index of the first axis of
    the key."""
    for shape in {jnp.shape(leaf) for leaf in jax.tree.leaves(config)} - {()}:
        if shape != key.shape[:1]:
            raise InputError(
                f"the config is a stack of shape {shape} and the key has shape {key.shape}; give "
                "keys (H, S) for H settings × S seeds, or (H,) for a run of each setting"
            )


def _is_by_run(config: Any, num_axes: int) -> bool:
    """Whether each run of a single axis has a setting of its own."""
    return num_axes == 1 and any(jnp.ndim(leaf) for leaf in jax.tree.leaves(config))


def over_runs(function: Callable, num_axes: int, seed_batch: int | None = None) -> Callable:
    """Maps `function(config, *per_run)` over the seed axis and then the setting axis.

    Args:
      function: Takes a config and then arguments that differ by run.
      num_axes: 0, 1 (seeds, one shared config or a stacked one with a setting for each) or 2
        (settings, a stacked config, × seeds).
      seed_batch: Seeds at once; None for all.
    """

    def over_seeds(config: Any, *per_run: Any) -> Any:
        is_by_run = _is_by_run(config, 1)  # of two axes the first is mapped by now

        def of_seed(own: tuple) -> Any:
            return function(*own) if is_by_run else function(config, *own)

        own = (config, *per_run) if is_by_run else per_run
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
