"""`.npz` files with the keys of D4RL or of OGBench."""

import math
import zipfile

import numpy as np

from offrl_jax import environments
from offrl_jax.data import cache
from offrl_jax.data.recording import Recording
from offrl_jax.data.sources import columns, d4rl_hdf5, paths
from offrl_jax.data.streaming import memory
from offrl_jax.types import InputError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
DESCRIPTION = ("env_id", "env_kwargs", "max_episode_steps", "observation_keys", "num_actions")


def matches(name: str) -> bool:
    return name.endswith(".npz")


def stamp(name: str) -> list:
    return [cache.stamp(paths.existing(name)), environments.versions()]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Reads a file, which may name the environment as HDF5 attributes do and the entries of a
    Dict observation as `observation_keys`, and names `num_actions` where actions are indices of no
    environment; nothing pickled is ever opened."""
    path = paths.existing(name)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            columns.check_keys(name, members)
            fields = (*columns.REQUIRED, *columns.OPTIONAL, *DESCRIPTION)
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
    description = {field: arrays.pop(field).tolist() for field in DESCRIPTION if field in arrays}
    task = {}
    if not env_id and "env_id" in description:
        env_id, task = str(description["env_id"]), d4rl_hdf5.task_of(name, description)
        recorded_keys = np.ravel(description.get("observation_keys", ())).tolist()
        observation_keys = observation_keys or tuple(map(str, recorded_keys))
    return columns.record(
        name,
        arrays,
        env_id=env_id or None,
        observation_keys=observation_keys,
        task=task,
        num_actions=description.get("num_actions"),
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
