"""Folders of shards, as `offrl_jax.data.streaming.shards` writes them."""

import dataclasses
import json
import tokenize
from operator import lt
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data.dataset import Preprocessing
from offrl_jax.data.sources import paths
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import (
    COLUMNS,
    DESCRIPTION,
    FORMAT,
    SUFFIX,
    dtype,
    shard_name,
    width,
)
from offrl_jax.types import InputError, Spec

MOST = float(np.finfo(np.float32).max)


def matches(name: str) -> bool:
    """Whether a dataset of that name would be a folder of shards."""
    return name.rstrip("/").endswith(SUFFIX)


def open_folder(name: str, *, trust_dataset_env: bool = False) -> HostDataset:
    """Maps the files of a folder: checks their lengths and types, and reads only the first and the
    last episode of each shard.

    Raises:
      InputError: if the folder was not written completely, or was changed since.
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
        with np.errstate(over="ignore"):
            fields = {k: np.asarray(v, np.float32) for k, v in described["preprocessing"].items()}
        preprocessing, discount = Preprocessing(**fields), described["discount"]
        rows = tuple(described["rows"])
        _check(spec, preprocessing, discount, rows)
        if (folder / shard_name(len(rows))).exists():
            raise ValueError(f"rows of {len(rows)} shards, but there is {shard_name(len(rows))}")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{DESCRIPTION} of {name} cannot be used ({type(error).__name__}: {error}); write the "
            "shards again with `offrl datasets shard`"
        ) from error
    files = tuple(
        {field: _mapped(name, folder / shard_name(i), field, n, spec) for field in COLUMNS}
        for i, n in enumerate(rows)
    )
    last = -1
    for i, columns in enumerate(files):
        first, end = int(columns["episode"][0]), int(columns["episode"][-1])
        if not (max(last, 0) <= first <= last + 1 and first <= end < first + rows[i]):
            raise InputError(
                f"shard {shard_name(i)} of {name} begins with episode {first} after episode {last} "
                f"and ends with {end}; write the shards again from their source"
            )
        last = end
    preprocessing, discount = jax.tree.map(jnp.asarray, preprocessing), float(discount)
    return HostDataset(files, preprocessing, discount, preprocessing, spec, discount)


def _check(spec: Spec, preprocessing: Preprocessing, discount: Any, rows: tuple) -> None:
    """Raises ValueError where a description says what none that was written here does."""

    def count(x: Any) -> bool:
        return type(x) is int and x > 0

    def text(x: Any) -> bool:
        return isinstance(x, str)

    def numbers(x: Any, length: int) -> bool:
        return (
            isinstance(x, tuple)
            and len(x) == length
            and all(type(y) in (int, float) and abs(y) <= MOST for y in x)
        )

    low, high, reference = spec.action_low, spec.action_high, spec.reference_scores
    size, std = spec.action_size, preprocessing.observation_std
    shapes = 2 * [(spec.observation_size,)] + 2 * [()]
    sound = {
        "observation_size": count(spec.observation_size),
        "action_size": count(size),
        "action_high": numbers(high, size),
        "action_low": numbers(low, size) and numbers(high, size) and all(map(lt, low, high)),
        "discrete": isinstance(spec.discrete, bool),
        "env_id": spec.env_id is None or text(spec.env_id),
        "env_kwargs": spec.env_kwargs.startswith("{"),
        "max_episode_steps": spec.max_episode_steps is None or count(spec.max_episode_steps),
        "observation_keys": isinstance(spec.observation_keys, tuple)
        and all(map(text, spec.observation_keys)),
        "reference_scores": reference is None
        or (numbers(reference, 2) and reference[0] != reference[1]),
        "fingerprint": text(spec.fingerprint),
        "env_entry_point": spec.env_entry_point is None or text(spec.env_entry_point),
        "preprocessing": [x.shape for x in preprocessing] == shapes
        and all(np.isfinite(x).all() for x in preprocessing)
        and (std > 0).all()
        and preprocessing.reward_scale != 0,
        "discount": numbers((discount,), 1) and 0 <= discount <= 1,
        "rows": len(rows) > 0 and all(map(count, rows)),
    }
    values = vars(spec) | {"preprocessing": preprocessing, "discount": discount, "rows": rows}
    for field, is_sound in sound.items():
        if not is_sound:
            raise ValueError(f"{field} is {values[field]!r:.80}")


def _mapped(name: str, folder: Path, field: str, num_rows: int, spec: Spec) -> np.ndarray:
    path = folder / f"{field}.npy"
    where = f"{folder.name}/{path.name} of {name}"
    remedy = "write the shards again from their source"
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # no archive, and nothing pickled
    except FileNotFoundError as error:
        raise InputError(f"there is no {where}; {remedy}") from error
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
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
