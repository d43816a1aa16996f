"""Data that stay on the disk: memory-mapped, transformed as they are read."""

import dataclasses
import functools
import itertools
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import jax.numpy as jnp
import numpy as np

from offrl_jax.data.dataset import Data, Dataset, Preprocessing, returns_to_go
from offrl_jax.data.streaming import memory
from offrl_jax.data.streaming.shards import dtype, row_bytes, shard_name, width
from offrl_jax.types import Array, InputError, Int, Spec, Transition

PART_BYTES = 2**23  # of a file that are resident at a time


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HostDataset(Data):
    """N transitions in mapped files; only the rows that are read come into memory.

    Attributes:
      files: By shard, arrays of `Transition`'s fields and `episode`.
      stored: The transforms in the files.
      stored_discount: γ of the files' return-to-go.
      preprocessing: The transforms applied so far; what is not in the files yet is as rows are
        read.
      spec: Shapes, bounds, environment, references.
      discount: γ of `return_to_go`.
    """

    files: Sequence[dict[str, np.ndarray]]
    stored: Preprocessing
    stored_discount: float
    preprocessing: Preprocessing
    spec: Spec
    discount: float

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def num_episodes(self) -> int:
        return int(self.files[-1]["episode"][-1]) + 1

    def parts(self, *fields: str) -> Iterator[tuple[np.ndarray, ...]]:
        """As `Data.parts`.

        Raises:
          InputError: if `episode` is among the fields and its numbers are not in order.
        """
        last = -1
        at_once = max(1, PART_BYTES // row_bytes(self.spec, fields))
        for shard in range(len(self.files)):
            columns = [self._columns(field)[shard] for field in fields]
            changes = [self._change(field) for field in fields]
            for start in range(0, len(columns[0]), at_once):
                rows = [np.array(column[start : start + at_once]) for column in columns]
                for column in columns:
                    _release(column)
                if "episode" in fields:
                    episode = rows[fields.index("episode")]
                    if episode[0] < 0 or not np.isin(np.diff(episode, prepend=last), (0, 1)).all():
                        raise InputError(
                            f"episodes of {self.spec.name} are not in order in shard "
                            f"{shard_name(shard)}; write the shards again from their source"
                        )
                    last = episode[-1]
                yield tuple(change(x) for change, x in zip(changes, rows, strict=True))

    def take(self, index: Int[Array | np.ndarray, "M"]) -> Dataset:
        columns = self.gather(np.asarray(index), (*Transition._fields, "episode"))
        columns = {field: jnp.asarray(x) for field, x in columns.items()}
        episode = columns.pop("episode")
        spec, discount = self.spec, self.discount
        return Dataset(Transition(**columns), episode, self.preprocessing, spec, discount)

    def on_device(self) -> Dataset:
        """All rows, on the device."""
        columns = {}
        for field in (*Transition._fields, "episode"):
            whole, stop = np.empty((len(self), *width(self.spec, field)), dtype(field)), 0
            for (rows,) in self.parts(field):
                start, stop = stop, stop + len(rows)
                whole[start:stop] = rows
            columns[field] = jnp.asarray(whole)
        episode = columns.pop("episode")
        spec, discount = self.spec, self.discount
        return Dataset(Transition(**columns), episode, self.preprocessing, spec, discount)

    def normalized(self, step: Preprocessing, preprocessing: Preprocessing) -> "HostDataset":
        return dataclasses.replace(self, preprocessing=preprocessing)

    def rescaled(self, scale: float, bias: float, preprocessing: Preprocessing) -> "HostDataset":
        return dataclasses.replace(self, preprocessing=preprocessing)

    def gather(
        self, index: np.ndarray, fields: Sequence[str], pool: Executor | None = None
    ) -> dict[str, np.ndarray]:
        """Rows of some fields, of shape (*index.shape, ...), transformed.

        Files are read from front to back, a stretch of each at a time, and forgotten behind.

        Args:
          index: Of rows, from 0 to N − 1, in any order and shape.
          fields: Of `Transition`, or `episode`.
          pool: What reads the files; None for this thread.

        Raises:
          InputError: if the index holds anything but whole numbers from 0 to N − 1.
        """
        flat = index.reshape(-1)
        order = np.argsort(flat)
        rows = flat[order]
        if rows.dtype.kind not in "iu" or (rows[:1] < 0).any() or (rows[-1:] >= len(self)).any():
            raise InputError(
                f"rows of {self.spec.name} are asked for that are no whole numbers from 0 to "
                f"{len(self) - 1}; give such an index"
            )
        bounds = np.searchsorted(rows, self._starts)
        found = {
            field: np.empty((flat.size, *width(self.spec, field)), dtype(field)) for field in fields
        }
        work = [
            functools.partial(
                _read,
                self._columns(field)[shard],
                rows[start:stop] - self._starts[shard],
                change=self._change(field),
                out=found[field],
                places=order[start:stop],
            )
            for shard, (start, stop) in enumerate(itertools.pairwise(bounds))
            if start < stop
            for field in fields
        ]
        for _ in (map if pool is None else pool.map)(lambda read: read(), work):
            pass
        return {field: x.reshape(*index.shape, *x.shape[1:]) for field, x in found.items()}

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each shard, and how many there are."""
        return np.cumsum([0, *(len(columns["episode"]) for columns in self.files)])

    def _columns(self, field: str) -> list[np.ndarray]:
        """By shard, what is to be read."""
        if field == "return_to_go" and self._has_other_returns:
            return self._returns
        return [columns[field] for columns in self.files]

    def _change(self, field: str) -> Callable[[np.ndarray], np.ndarray]:
        """What makes a field's rows what `preprocessing` says."""
        if field in ("observation", "next_observation"):
            mean, std = self._observation_change
            if (mean != 0).any() or (std != 1).any():
                inverse = 1 / std  # as XLA divides by a broadcast row, so that bits are the same
                return lambda x: (x - mean) * inverse
        if field == "reward" or (field == "return_to_go" and not self._has_other_returns):
            scale, bias = self._reward_change
            return lambda x: x * scale + bias
        return lambda x: x

    @functools.cached_property
    def _observation_change(self) -> tuple[np.ndarray, np.ndarray]:
        mean, std = (np.asarray(x, np.float64) for x in self.preprocessing[:2])
        old_mean, old_std = (np.asarray(x, np.float64) for x in self.stored[:2])
        return np.float32((mean - old_mean) / old_std), np.float32(std / old_std)

    @functools.cached_property
    def _reward_change(self) -> tuple[np.float32, np.float32]:
        scale, bias = (float(x) for x in self.preprocessing[2:])
        old_scale, old_bias = (float(x) for x in self.stored[2:])
        return np.float32(scale / old_scale), np.float32(bias - old_bias * scale / old_scale)

    @property
    def _has_other_returns(self) -> bool:
        """Whether returns-to-go are not those of the files times a number."""
        return self.discount != self.stored_discount or self._reward_change[1] != 0

    @functools.cached_property
    def _returns(self) -> list[np.ndarray]:
        """Returns-to-go in a file that is gone with them, from the last row to the first."""
        whole = _unnamed(len(self), dtype("return_to_go"))
        change, following, after = self._change("reward"), -1, 0.0
        at_once = PART_BYTES // row_bytes(self.spec, ("reward", "episode"))
        for shard in reversed(range(len(self.files))):
            reward, episode = (self.files[shard][field] for field in ("reward", "episode"))
            for stop in range(len(reward), 0, -at_once):
                part = slice(max(0, stop - at_once), stop)
                last = episode[stop - 1]
                returns = returns_to_go(
                    change(reward[part]),
                    np.asarray(episode[part]),
                    self.discount,
                    after=after if last == following else 0.0,
                )
                whole[self._starts[shard] + part.start : self._starts[shard] + stop] = returns
                following, after = episode[part.start], float(returns[0])
                for array in (reward, episode, whole):
                    _release(array)
        whole.flush()
        return np.split(whole, self._starts[1:-1])


def _read(
    column: np.ndarray,
    rows: np.ndarray,
    *,
    change: Callable[[np.ndarray], np.ndarray],
    out: np.ndarray,
    places: np.ndarray,
) -> None:
    """Writes rows, in ascending order, of a mapped column to their places."""
    at_once = max(1, PART_BYTES // max(1, column[:1].nbytes))
    cuts = np.searchsorted(rows, np.arange(0, len(column) + at_once, at_once))
    for start, stop in itertools.pairwise(cuts):
        if start < stop:
            out[places[start:stop]] = change(column.take(rows[start:stop], axis=0))
            _release(column)


def _unnamed(length: int, dtype: np.dtype) -> np.ndarray:
    """An array in a file without a name, whose disk space is reserved at once.

    Raises:
      InputError: if the disk does not have the space.
    """
    size = length * dtype.itemsize
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115, the mapping keeps it
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later ends the process
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=(length,))
    except OSError as error:
        raise InputError(
            f"returns-to-go take {memory.gib(size)} in a temporary file ({error}); free so much, "
            "or name another folder in TMPDIR"
        ) from error


def _release(column: np.ndarray) -> None:
    """Releases the mapped pages, so that they do not count as this process's; the system may keep
    them in its cache."""
    mapped = getattr(column, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
