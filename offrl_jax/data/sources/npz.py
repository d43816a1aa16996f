"""`.npz` files with the keys of D4RL or of OGBench."""

import zipfile
import zlib

import numpy as np

from offrl_jax import environments
from offrl_jax.data import cache
from offrl_jax.data.recording import Recording
from offrl_jax.data.sources import columns, paths
from offrl_jax.types import InputError


def matches(name: str) -> bool:
    return name.endswith(".npz")


def stamp(name: str) -> list:
    return [cache.stamp(paths.existing(name)), environments.versions()]


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Reads a file; nothing pickled is ever opened."""
    try:
        with (
            open(paths.existing(name), "rb") as stream,
            np.load(stream, allow_pickle=False) as file,
        ):
            columns.check_keys(name, file.files)
            fields = (*columns.REQUIRED, *columns.OPTIONAL)
            arrays = {field: file[field] for field in fields if field in file.files}
            env_id = env_id or ("env_id" in file.files and str(file["env_id"])) or None
    except InputError:
        raise
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{name} is not an npz file of plain arrays ({error}); write it with numpy.savez, "
            "without objects"
        ) from error
    return columns.record(name, arrays, env_id, observation_keys)
