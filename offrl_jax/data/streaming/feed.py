"""Batches of data that are not on the device, gathered ahead of the steps that take them."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data.dataset import draw, step_keys
from offrl_jax.data.streaming import shards
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.devices import num_cores
from offrl_jax.types import Array, InputError, Int, Key, Spec, Transition

COPIES = 3  # of a piece: one trained on, one being gathered, one on its way to the device
INDEX_BYTES = 32  # a row's number, its place among sorted ones and what sorting takes
MOST_ROWS = 2**31 - 1  # numbers of rows are int32
MOST_READERS = 4


@partial(jax.tree_util.register_dataclass, data_fields=["transitions"], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of K steps.

    Attributes:
      transitions: Fields of shape (*runs, K, B, ...); None for those that no update reads.
      spec: The data's, bare.
    """

    transitions: Transition
    spec: Spec

    def at(self, i: Int[Array, ""]) -> Transition:
        """The batch of step i of one run, with zeros for what is not read."""
        of_step = partial(jax.lax.dynamic_index_in_dim, index=i, keepdims=False)
        found = jax.tree.map(of_step, self.transitions)._asdict()
        (size,) = {x.shape[0] for x in jax.tree.leaves(found)}
        for field in [field for field, x in found.items() if x is None]:
            found[field] = jnp.zeros((size, *shards.width(self.spec, field)))
        return Transition(**found)


class Feed:
    """Draws the rows that `sample` draws of a dataset on the device, for the same keys and steps.

    While a piece of so many steps is trained on, threads gather the next one and put it on the
    device. All pieces together take no more than the memory granted.

    Attributes:
      spec: The data's, bare.
      most_steps: Of a piece.
    """

    def __init__(
        self,
        dataset: HostDataset,
        keys: Key,
        batch_size: int,
        fields: Sequence[str],
        place: Callable[[Any], Any],
        memory_mb: int,
        purpose: Any,
    ):
        """Args:
        dataset: Where the rows are.
        keys: Of the runs, of any shape.
        batch_size: B.
        fields: Of `Transition`, those that are read.
        place: Puts arrays with the runs' axes in front where training takes them.
        memory_mb: Memory granted.
        purpose: What trains on the batches; `check` compares.

        Raises:
          InputError: if the memory does not hold the batches of a step, or there are too many rows.
        """
        if len(dataset) > MOST_ROWS:
            raise InputError(
                f"{dataset.spec.name} has {len(dataset)} rows, more than the {MOST_ROWS} that "
                "32 bits can number; give fewer"
            )
        row = COPIES * shards.row_bytes(dataset.spec, fields) + INDEX_BYTES
        step_bytes = keys.size * batch_size * row
        self.most_steps = memory_mb * 2**20 // step_bytes
        if self.most_steps < 1:
            raise InputError(
                f"host_memory_mb={memory_mb} does not hold the batches of a step of {keys.size} "
                f"runs; give at least {-(-step_bytes // 2**20)} (from Python, to learner.feed), or "
                "a smaller batch"
            )
        self.spec = dataset.spec.bare()
        self._purpose = purpose
        self._dataset, self._fields, self._place = dataset, fields, place
        self._cpu = _device_beside()
        self._keys, self._batch_size = jax.device_put(keys, self._cpu), batch_size
        self._ahead: ThreadPoolExecutor | None = ThreadPoolExecutor(1)
        self._readers = ThreadPoolExecutor(min(num_cores(), MOST_READERS))
        self._training: Any = None
        self._next: tuple[int, int, Future] | None = None

    def check(self, purpose: Any, keys: Key) -> None:
        """Raises InputError unless it was made for this purpose and these keys, and is open."""
        same = purpose == self._purpose and keys.shape == self._keys.shape
        if not same or (jax.random.key_data(keys) != jax.random.key_data(self._keys)).any():
            raise InputError(
                "the feed was made for another algorithm, config, seed_batch or key; make one of "
                "the same as learn is given"
            )
        if self._ahead is None:
            raise InputError("the feed is closed; make another")

    def take(self, step: int, num_steps: int) -> Batches:
        """The batches of these steps; at once if they were prepared."""
        self.prepare(step, num_steps, self._training)
        rows = self._next[2].result()
        self._next = None
        return rows

    def prepare(self, step: int, num_steps: int, training: Any = None) -> None:
        """Starts to gather the batches of these steps, once the computation before `training` has
        ended."""
        if self._next is not None:
            if self._next[:2] == (step, num_steps):
                return
            self._forget()
        before, self._training = self._training, training
        gathered = self._ahead.submit(self._gathered, step, num_steps, before)
        self._next = step, num_steps, gathered

    def close(self) -> None:
        """Lets its threads end."""
        if self._ahead is not None:
            self._forget()
            self._ahead.shutdown()
            self._readers.shutdown()
            self._ahead = None

    def _forget(self) -> None:
        if self._next is not None:
            self._next[2].cancel()
            self._next = None

    def _gathered(self, step: int, num_steps: int, after: Any) -> Batches:
        jax.block_until_ready(after)
        start = jax.device_put(np.int32(step), self._cpu)
        sizes = num_steps, self._batch_size, len(self._dataset)
        index = _rows_of_steps(self._keys, start, *sizes)
        found = self._dataset.gather(np.asarray(index), self._fields, self._readers)
        rows = Transition(*(found.get(field) for field in Transition._fields))
        return Batches(jax.block_until_ready(self._place(rows)), self.spec)


def _device_beside() -> jax.Device:
    """A device on which nothing waits for training: a CPU where JAX has one."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def fields_read(
    updates: Iterable[Callable], config: Any, state: Any, spec: Spec, key: Key
) -> list[str]:
    """The fields of a batch that some of the updates, `Algorithm.update` or the like, read."""
    blank = Transition(
        *(jnp.zeros((config.batch_size, *shards.width(spec, f))) for f in Transition._fields)
    )
    read = set()
    for update in updates:
        program = jax.make_jaxpr(lambda b, s, u=update: u(config, s, b, key))(blank, state).jaxpr
        used = {id(v) for equation in program.eqns for v in equation.invars}
        used |= {id(v) for v in program.outvars}
        fields = zip(Transition._fields, program.invars, strict=False)
        read |= {field for field, variable in fields if id(variable) in used}
    return [field for field in Transition._fields if field in read]


@partial(jax.jit, static_argnums=(2, 3, 4))
def _rows_of_steps(
    keys: Key, step: Int[Array, ""], num_steps: int, batch_size: int, num_rows: int
) -> Int[Array, "*runs K B"]:
    """What each run draws at each of the steps."""

    def of_run(key: Key) -> Int[Array, "K B"]:
        steps = step + jnp.arange(num_steps)
        return jax.vmap(lambda t: draw(step_keys(key, t)[0], batch_size, num_rows))(steps)

    return jax.vmap(of_run)(keys.reshape(-1)).reshape(*keys.shape, num_steps, batch_size)
