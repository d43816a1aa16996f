"""`.npz` files with the keys of D4RL or of OGBench."""

import math
import zipfile

import numpy as np

from offrl_jax import environments
from offrl_jax.data import cache, memory
from offrl_jax.data.recording import Recording
from offrl_jax.data.sources import columns, paths
from offrl_jax.types import InputError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def matches(name: str) -> bool:
    return name.endswith(".npz")


def stamp(name: str) -> list:
    return [cache.stamp(paths.existing(name)), environments.versions()]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Reads a file, where actions are indices with their number as `num_actions` unless it names
    the environment; nothing pickled is ever opened."""
    path = paths.existing(name)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            columns.check_keys(name, members)
            fields = (*columns.REQUIRED, *columns.OPTIONAL, "env_id", "num_actions")
            fields = [field for field in fields if field in members]
            memory.check(name, {field: _size(archive, field) for field in fields})
            arrays = {field: _read(archive, field) for field in fields}
    except InputError:
        raise
    except Exception as error:  # whatever damage makes of an archive, its codecs and its headers
        raise InputError(
            f"{name} is not an npz file of plain arrays ({error}); write it with numpy.savez, "
            "without objects"
        ) from error
    recorded = str(arrays.pop("env_id", ""))
    num_actions = arrays.pop("num_actions", None)
    return columns.record(
        *(name, arrays, env_id or recorded or None, observation_keys), num_actions=num_actions
    )


def _size(archive: zipfile.ZipFile, field: str) -> int:
    """Bytes of an array, on which its header and the archive must agree."""
    with archive.open(f"{field}.npy") as stream:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
        size, stored = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{field}.npy").file_size
        if dtype.hasobject:
            raise ValueError(f"{field} holds pickled objects")
        if stream.tell() + size != stored:
            raise ValueError(f"{field} declares {size} bytes in a member of {stored}")
    return size


def _read(archive: zipfile.ZipFile, field: str) -> np.ndarray:
    with archive.open(f"{field}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where the checksum is verified
    return array
