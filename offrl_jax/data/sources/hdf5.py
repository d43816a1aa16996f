"""HDF5 files that are complete and hold their own data."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.data.streaming import memory
from offrl_jax.types import InputError

CHECKSUM_BYTES = 4  # of a chunk with fletcher32


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """The file, open for reading.

    Raises:
      InputError: if h5py is missing, or the file is another format, cut short or damaged.
    """
    h5py = require("h5py", f"reading {path}")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # h5py raises all sorts on damage, wherever that is first met
        raise InputError(
            f"{path} cannot be read as HDF5 ({error}); fetch it again if it was cut short"
        ) from error


def member(path: str, group: Any, key: str) -> Any:
    """A member that is stored in the file itself.

    Raises:
      InputError: if it does not exist, is a link, or has its data in another file.
    """
    h5py = require("h5py", f"reading {path}")
    found = None
    if not hasattr(group, "keys"):
        raise InputError(f"{group.name} of {path} is an array where a group is needed")
    links = group.id.links  # looked at without being followed, but for those on the way to a key
    link = key.encode(errors="surrogateescape")
    if not link or b"/" in link or b"\0" in link or not links.exists(link):
        raise InputError(
            f"{path} has no {key!r} in {group.name}: it holds {', '.join(group) or 'nothing'}"
        )
    if links.get_info(link).type == h5py.h5l.TYPE_HARD:
        found = group[key]
    elsewhere = isinstance(found, h5py.Dataset) and (found.is_virtual or found.external)
    if found is None or elsewhere:
        raise InputError(
            f"{key!r} of {path} is a link to data elsewhere, which is not followed; "
            "copy the data into the file"
        )
    return found


def array(path: str, group: Any, key: str) -> Any:
    """The dataset of that name, unread.

    Raises:
      InputError: as `member` does, and if it is a group or a single value, or larger than memory.
    """
    found = member(path, group, key)
    if not getattr(found, "shape", None):
        raise InputError(f"{key!r} of {path} is a group or a single value; an array is needed")
    memory.check(path, {found.name: _size(found)})
    return found


def read(path: str, dataset: Any) -> np.ndarray:
    """A dataset's numbers.

    Raises:
      InputError: if they are damaged, as a checksum or a filter finds.
    """
    try:
        if dataset.fletcher32:
            _check_chunks(dataset)
        return dataset[()]
    except Exception as error:  # as in `opened`
        raise InputError(
            f"{dataset.name} of {path} cannot be read, its bytes being damaged ({error}); "
            "fetch the file again"
        ) from error


def arrays(path: str, group: Any, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Several datasets, read.

    Raises:
      InputError: as `array` and `read` do, and if they would not fit into memory together.
    """
    found = {key: array(path, group, key) for key in keys}
    memory.check(path, {key: _size(dataset) for key, dataset in found.items()})
    return {key: read(path, dataset) for key, dataset in found.items()}


def _check_chunks(dataset: Any) -> None:
    """libhdf5 crashes on a chunk that is shorter than its checksum."""
    sizes = []
    dataset.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
    if min(sizes, default=CHECKSUM_BYTES) < CHECKSUM_BYTES:
        raise OSError("a chunk is shorter than its checksum")


def _size(dataset: Any) -> int:
    return math.prod(dataset.shape) * dataset.dtype.itemsize
