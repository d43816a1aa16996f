"""Flat arrays of the datasets read so far, one directory each, under the user's cache.

Parsing a file of many episodes takes seconds to minutes and hashing it a while; both are done
once. An entry appears whole or not at all, so processes may race for it; its checksum is verified
whenever it is read, and whatever is wrong with the cache costs time, never a run.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.data.arrays import FLAGS
from offrl_jax.data.dataset import fingerprint
from offrl_jax.data.recording import Recording

FORMAT = 6  # raised whenever a source reads the same bytes differently


def root(kind: str = "datasets") -> Path | None:
    """Where such things are kept, below $OFFRL_JAX_CACHE or else the user's cache directory; None
    where neither is known."""
    if chosen := os.environ.get("OFFRL_JAX_CACHE"):
        return Path(chosen).expanduser() / kind
    try:
        import platformdirs
    except ImportError:
        logging.warning(
            "%s are not kept from run to run; set OFFRL_JAX_CACHE or pip install platformdirs", kind
        )
        return None
    return Path(platformdirs.user_cache_dir("offrl_jax")) / kind


def entry(*identity: object) -> Path | None:
    """The directory of the dataset that the given values, all of JSON's types, determine."""
    directory = root()
    digest = hashlib.sha256(json.dumps([FORMAT, *identity]).encode()).hexdigest()
    return directory and directory / digest[:32]


def stamp(*paths: Path) -> list[Sequence]:
    """What changes when one of the files does: resolved path, size, time of change."""
    stats = [(str(path.resolve()), path.stat()) for path in paths]
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def read(directory: Path | None) -> Recording | None:
    """The entry, or None if it does not exist or was changed."""
    if directory is None:
        return None
    try:
        fields = json.loads((directory / "fields.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in directory.glob("*.npy")}
        if _checksum(arrays, fields) != fields.pop("checksum"):
            return None
    except Exception:  # whatever damage makes of a file
        return None
    return Recording(arrays, {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def write(directory: Path | None, recording: Recording) -> None:
    """Stores an entry in place of an unreadable one; a failure is a warning."""
    if directory is None:
        return
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=directory.parent, prefix=".", ignore_cleanup_errors=True
        ) as temporary:
            fresh = Path(temporary, "entry")
            fresh.mkdir()
            arrays = {
                field: np.asarray(array, bool if field in FLAGS else np.float32)
                for field, array in recording.arrays.items()
            }
            for field, array in arrays.items():
                np.save(fresh / f"{field}.npy", array)
            fields = recording.fields | {"checksum": _checksum(arrays, recording.fields)}
            (fresh / "fields.json").write_text(json.dumps(fields))
            if read(directory) is None:
                shutil.rmtree(directory, ignore_errors=True)
            _move(fresh, directory)
    except OSError as error:
        logging.warning("cannot store datasets under %s (%s)", directory.parent, error)


def _checksum(arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> str:
    fields = {key: value for key, value in fields.items() if key != "checksum"}
    names = sorted(arrays)
    description = json.dumps([names, fields], sort_keys=True).encode()
    return fingerprint(*(arrays[name] for name in names), np.frombuffer(description, np.uint8))


def _move(fresh: Path, directory: Path) -> None:
    try:
        fresh.rename(directory)
    except OSError:
        if read(directory) is None:  # else another process stored the same entry first
            raise
