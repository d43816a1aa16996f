"""Folders of shards, as `offrl_jax.data.shards` writes them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from offrl_jax.data.dataset import Preprocessing
from offrl_jax.data.host import HostDataset
from offrl_jax.data.shards import (
    COLUMNS,
    DESCRIPTION,
    FORMAT,
    SUFFIX,
    dtype,
    shard_name,
    width,
)
from offrl_jax.data.sources import paths
from offrl_jax.types import InputError, Spec


def matches(name: str) -> bool:
    return name.rstrip("/").endswith(SUFFIX)


def open_folder(name: str, *, trust_dataset_env: bool = False) -> HostDataset:
    """Maps the files of a folder, whose lengths and types are checked and whose numbers are not
    read.

    Raises:
      InputError: if it is none that was written whole, or was changed since.
    """
    folder = paths.existing(name.rstrip("/"), is_folder=True)
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        if described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']!r}, not {FORMAT!r}")
        spec = Spec.from_json(described["spec"] | {"name": name})
        if trust_dataset_env:
            entry_point = described["spec"]["env_entry_point"]
            spec = dataclasses.replace(spec, env_entry_point=entry_point)
        preprocessing = _preprocessing(described["preprocessing"], spec)
        discount, rows = float(described["discount"]), described["rows"]
        if not rows or not all(type(n) is int and n > 0 for n in rows):
            raise ValueError(f"it has rows={rows}, not numbers of rows")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{name} has no {DESCRIPTION} of a folder of shards "
            f"({type(error).__name__}: {error}); write it again with `experiments.datasets shard`"
        ) from error
    files = tuple(
        {field: _mapped(name, folder / shard_name(i), field, n, spec) for field in COLUMNS}
        for i, n in enumerate(rows)
    )
    last = -1
    for i, columns in enumerate(files):
        if not last <= columns["episode"][0] <= last + 1:
            raise InputError(
                f"shard {shard_name(i)} of {name} begins with episode {columns['episode'][0]} "
                f"after episode {last}; write the shards again from their source"
            )
        last = columns["episode"][-1]
    return HostDataset(files, preprocessing, discount, preprocessing, spec, discount)


def _preprocessing(fields: dict[str, Any], spec: Spec) -> Preprocessing:
    read = Preprocessing(**{k: np.asarray(v, np.float32) for k, v in fields.items()})
    shapes = 2 * [(spec.observation_size,)] + 2 * [()]
    if [x.shape for x in read] != shapes or not all(np.isfinite(x).all() for x in read):
        raise ValueError("its preprocessing is of another task")
    return Preprocessing(*map(jnp.asarray, read))


def _mapped(name: str, folder: Path, field: str, num_rows: int, spec: Spec) -> np.ndarray:
    path = folder / f"{field}.npy"
    where = f"{folder.name}/{path.name} of {name}"
    remedy = "write the shards again from their source"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"there is no {where}; {remedy}") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{where} is no whole npy file ({error}); {remedy}") from error
    shape = (num_rows, *width(spec, field))
    if array.dtype != dtype(field) or array.shape != shape:
        raise InputError(
            f"{where} holds {array.dtype} of shape {array.shape} where {DESCRIPTION} asks for "
            f"{dtype(field)} of shape {shape}; {remedy}"
        )
    if path.stat().st_size != array.offset + array.nbytes or np.isfortran(array):
        raise InputError(f"{where} is longer than it declares or in another order; {remedy}")
    return array
