"""Folders of shards: data of any size as arrays on the disk, written without ever being in memory.

NAME.shards/
  dataset.json           spec with the fingerprint, preprocessing, discount, rows of each shard
  00000/observation.npy  the fields of `Transition` in float32, (rows, ...)
  00000/episode.npy      each row's episode, int32, counted from 0 over all shards
  00001/...

An episode may continue in the next shard.
"""

import dataclasses
import glob
import hashlib
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.data.dataset import Data
from offrl_jax.files import write_json
from offrl_jax.types import InputError, Spec, Transition

SUFFIX = ".shards"
DESCRIPTION = "dataset.json"
FORMAT = "shards of transitions, 1"
COLUMNS = (*Transition._fields, "episode")
HEADER_BYTES = 128


def shard(
    datasets: Data | Iterable[Data], path: str | os.PathLike, *, rows_per_shard: int = 1_000_000
) -> Path:
    """Writes data as a folder of shards, whose path is a dataset's name from then on.

    It appears whole or not at all; what a process that was killed left of it beside that path is
    removed. Given a generator no more than what it gives at a time is in memory.

    Args:
      datasets: One, or several of the same task and transforms, whose episodes follow on.
      path: Of the folder to make, ending in .shards, that nothing else is writing.
      rows_per_shard: Transitions in each shard but the last.

    Raises:
      InputError: if the path cannot be written to, or what is given are no data or such as do not
        belong together.
    """
    if not isinstance(rows_per_shard, int | np.integer) or rows_per_shard < 1:
        raise InputError(f"rows_per_shard={rows_per_shard!r}; give a whole number from 1 on")
    path, partial = _begun(path)
    writer = None
    try:
        for dataset in datasets if isinstance(datasets, Iterable) else [datasets]:
            if not isinstance(dataset, Data):
                raise InputError(
                    f"{type(dataset).__name__} is no dataset to write to {path}; give what "
                    "data.load_dataset or data.dataset_from_arrays returns"
                )
            writer = writer or _Writer(partial, dataset, rows_per_shard)
            writer.add(dataset)
        if writer is None:
            raise InputError(f"there are no data to write to {path}; give some")
        writer.end()
        partial.rename(path)
    except OSError as error:
        raise InputError(
            f"shards cannot be written to {path} ({error}); fix that or give another path"
        ) from error
    finally:
        if writer is not None:
            writer.close()
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _begun(path: str | os.PathLike) -> tuple[Path, Path]:
    """The path to write to and, beside it, an empty folder that is to become what is there."""
    try:
        path = Path(path).expanduser()
        if path.suffix != SUFFIX or not path.absolute().parent.is_dir():
            raise ValueError("it is no new folder ending in .shards")
        if path.exists():
            raise ValueError("it exists already")
        partial = path.absolute().with_name(f".{path.name}.{os.getpid()}")
        for leftover in partial.parent.glob(f".{glob.escape(path.name)}.*"):
            shutil.rmtree(leftover)
        partial.mkdir()
    except (OSError, ValueError, RuntimeError) as error:  # no space, no name, no such user
        raise InputError(
            f"shards cannot be written to {str(path)[:80]!r} ({error}); give another path"
        ) from error
    return path, partial


def width(spec: Spec, field: str) -> tuple[int, ...]:
    """The shape of a row of that field."""
    observation, action = (spec.observation_size,), (spec.action_size,)
    widths = {"observation": observation, "next_observation": observation}
    return (widths | {"action": action, "next_action": action}).get(field, ())


def dtype(field: str) -> np.dtype:
    """The type of that field on the disk."""
    return np.dtype("<i4" if field == "episode" else "<f4")


def row_bytes(spec: Spec, fields: Iterable[str] = COLUMNS) -> int:
    """Bytes of a row of these fields."""
    return sum(4 * int(np.prod(width(spec, field))) for field in fields)


class _Writer:
    """Rows appended to files, a shard's at a time."""

    def __init__(self, folder: Path, first: Data, rows_per_shard: int):
        self._folder, self._first, self._most = folder, first, rows_per_shard
        self._description = _described(first)
        self._rows: list[int] = []
        self._files: dict[str, Any] = {}
        self._fingerprints: list[str] = []
        self._num_episodes = 0

    def add(self, dataset: Data) -> None:
        if _described(dataset) != self._description:
            raise InputError(
                f"{dataset.spec.name} is of another task than {self._first.spec.name}, or "
                "transformed in another way; shards hold data of one"
            )
        self._fingerprints.append(dataset.spec.fingerprint)
        for columns in dataset.parts(*COLUMNS):
            columns = (*columns[:-1], columns[-1] + np.int32(self._num_episodes))
            start, stop = 0, len(columns[-1])
            while start < stop:
                if not self._files:
                    self._open()
                end = min(stop, start + self._most - self._rows[-1])
                for field, column in zip(COLUMNS, columns, strict=True):
                    rows = np.ascontiguousarray(column[start:end], dtype(field))
                    self._files[field].write(rows)
                self._rows[-1] += end - start
                start = end
                if self._rows[-1] == self._most:
                    self._end_shard()
        self._num_episodes += dataset.num_episodes

    def end(self) -> None:
        if self._files:
            self._end_shard()
        fingerprint = self._fingerprints[0]
        if len(self._fingerprints) > 1:
            fingerprint = hashlib.sha256("".join(self._fingerprints).encode()).hexdigest()
        spec = dataclasses.replace(self._first.spec, fingerprint=fingerprint)
        described = self._description | {"spec": spec.to_json(), "rows": self._rows}
        write_json(self._folder / DESCRIPTION, described)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _open(self) -> None:
        folder = self._folder / shard_name(len(self._rows))
        folder.mkdir()
        self._rows.append(0)
        for field in COLUMNS:
            self._files[field] = (folder / f"{field}.npy").open("wb")
            self._files[field].write(bytes(HEADER_BYTES))

    def _end_shard(self) -> None:
        for field, file in self._files.items():
            shape = self._rows[-1], *width(self._first.spec, field)
            file.seek(0)
            file.write(_header(shape, dtype(field)))
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files = {}


def shard_name(number: int) -> str:
    """Of the shard's folder."""
    return f"{number:05d}"


def _described(dataset: Data) -> dict[str, Any]:
    spec = dataclasses.replace(dataset.spec, fingerprint="", name="")
    preprocessing = {k: np.asarray(v).tolist() for k, v in dataset.preprocessing._asdict().items()}
    return {
        "format": FORMAT,
        "spec": spec.to_json(),
        "preprocessing": preprocessing,
        "discount": dataset.discount,
    }


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Of an npy file, always as long, so that rows can be written before their number is known."""
    fields = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    text = f"{fields!r}".ljust(HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")
