"""Choices by backend, which affect only speed, and the placement of arrays.

Measured on two x86 cores with AVX-512, float32, jax 0.10.2, Hopper's shapes; BUILD_NOTES.md has the
protocol. Results are the same to rounding for every choice.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from offrl_jax.types import InputError, Key

BFLOAT16 = "BF16_BF16_F32"  # JAX's name of products of bfloat16 numbers, summed in float32
MATMUL_PRECISIONS: dict[str, Callable] = {
    "default": contextlib.nullcontext,
    "float32": partial(jax.default_matmul_precision, "float32"),
    "bfloat16": partial(jax.default_matmul_precision, BFLOAT16),
}

# Maximum number of inputs (s, a) that CQL's critics take at once, so that a core's cache holds
# their hidden layers: 31 actions for 256 states are 7,936 inputs with 256 units each, for two
# critics.
ROWS_AT_ONCE = {"cpu": 1024}

# Updates in one trip of the training loop. With two, the state alternates between two sets of
# buffers without a copy, and the end of one update overlaps with the start of the next: 1.15 times
# the updates of AWAC, 1.11 of IQL, 1.08 of BCQ, 1.04 of BC, no change for CQL; more do not help.
UPDATES_A_TRIP = {"cpu": 2}

# Whether copies of a seed fill the last device up if the seeds do not divide evenly.
FILLED_UP = {"cpu": False}


def mean_over_blocks(function: Callable, rows: Any, width: int) -> Any:
    """`function(rows)`, computed over blocks of rows that suit the backend and averaged.

    Args:
      function: Maps rows to a pytree of means over the rows.
      rows: A pytree of arrays (B, ...), and of scalars that all rows share.
      width: Number of network inputs per row.
    """
    leaves, structure = jax.tree.flatten(rows)
    is_row = [leaf.ndim > 0 for leaf in leaves]
    num_blocks = _num_blocks(len(leaves[is_row.index(True)]), width)
    if num_blocks == 1:
        return function(rows)
    blocks = [x.reshape(num_blocks, -1, *x.shape[1:]) for x in leaves if x.ndim > 0]

    def of_block(block: list[jax.Array]) -> Any:
        parts = iter(block)
        return function(
            structure.unflatten(
                next(parts) if row else x for x, row in zip(leaves, is_row, strict=True)
            )
        )

    def add(total: Any, block: list[jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_block(block)), None

    total, _ = jax.lax.scan(add, of_block([x[0] for x in blocks]), [x[1:] for x in blocks])
    return jax.tree.map(lambda x: x / num_blocks, total)


def _num_blocks(num_rows: int, width: int) -> int:
    """The smallest number of equal blocks with at most `ROWS_AT_ONCE` inputs each; 1 if the blocks
    would have less than a quarter of that."""
    limit = ROWS_AT_ONCE.get(jax.default_backend())
    if limit is None:
        return 1
    divisors = (n for n in range(1, num_rows + 1) if num_rows % n == 0)
    inputs = {n: num_rows // n * width for n in divisors}
    return next((n for n in inputs if limit / 4 <= inputs[n] <= limit), 1)


def updates_a_trip() -> int:
    """Updates that one trip of the training loop should hold."""
    return UPDATES_A_TRIP.get(jax.default_backend(), 1)


def check_matmul_precision(matmul_precision: str) -> None:
    """Raises InputError unless the precision is one of `MATMUL_PRECISIONS`."""
    if matmul_precision not in MATMUL_PRECISIONS:
        raise InputError(
            f"matmul_precision={matmul_precision!r} is not one of {', '.join(MATMUL_PRECISIONS)}"
        )


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(*num_seeds: int) -> None:
    """Makes each CPU core that trains seeds of its own a JAX device, for `seed_mesh`.

    Two cores that share the small products of one program wait for one another; with a program each
    they do not: 1.4 times the updates of BC, 1.2 of IQL and 1.4 of CQL for two seeds.
    Call it before JAX starts its backend; it has no effect later, or where the number of CPU
    devices was set already. Each device holds a copy of the dataset.
    """
    if jax.config.jax_num_cpu_devices > 0 or "device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # it has started
        num_devices = max(_largest_share(n, num_cores()) for n in num_seeds)
        jax.config.update("jax_num_cpu_devices", num_devices)


def seed_mesh(num_seeds: int) -> jax.sharding.Mesh | None:
    """A mesh of local devices that each train the same number of seeds; None for a single device.

    If the devices do not divide the seeds, accelerators fill the last device up with copies (see
    `FILLED_UP`), and CPUs use fewer devices.
    """
    limit = jax.local_device_count()
    if FILLED_UP.get(jax.default_backend(), True):
        each = -(-num_seeds // limit)
        num_devices = -(-num_seeds // each)
    else:
        num_devices = _largest_share(num_seeds, limit)
    if num_devices == 1:
        return None
    return jax.sharding.Mesh(np.array(jax.local_devices()[:num_devices]), ("seed",))


def _largest_share(num_seeds: int, limit: int) -> int:
    """The largest divisor of the number of seeds up to a limit."""
    return max(d for d in range(1, max(1, min(num_seeds, limit)) + 1) if num_seeds % d == 0)


def by_seed(key: Key) -> PartitionSpec:
    """How arrays with the axes of this key in front are split: along the last of these axes."""
    return PartitionSpec(*[None] * (key.ndim - 1), "seed")


def distribute(mesh: jax.sharding.Mesh, key: Key, tree: Any) -> Any:
    """Arrays with the axes of this key in front, each seed's on its own device.

    The last seed is repeated until every device has the same number (`drop_copies`).
    """
    num_seeds, axis = key.shape[-1], key.ndim - 1
    index = np.minimum(np.arange(num_seeds + -num_seeds % mesh.size), num_seeds - 1)
    if len(index) > num_seeds:
        tree = jax.tree.map(lambda x: x[(*[slice(None)] * axis, index)], tree)
    return jax.device_put(tree, NamedSharding(mesh, by_seed(key)))


@partial(jax.jit, static_argnums=(0, 1))
def drop_copies(num_seeds: int, axis: int, tree: Any) -> Any:
    """The first `num_seeds` entries of the axis, without the copies of `distribute`."""
    return jax.tree.map(lambda x: x[(*[slice(None)] * axis, slice(num_seeds))], tree)


def replicate(mesh: jax.sharding.Mesh | None, tree: Any) -> Any:
    """A copy on every device of the mesh; the tree itself without a mesh."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
