"""From a dataset's name to a `Dataset`: the one place that reads files."""

import difflib
import logging
import os
from types import ModuleType

from offrl_jax.data import cache
from offrl_jax.data.dataset import Data
from offrl_jax.data.sources import d4rl_hdf5, generated, minari, npz, shards
from offrl_jax.data.streaming import memory
from offrl_jax.data.streaming.host_dataset import HostDataset
from offrl_jax.data.streaming.shards import COLUMNS, row_bytes
from offrl_jax.data.transforms import with_discount
from offrl_jax.types import InputError

# Asked in this order. Each has matches(name); stamp(name), what changes with its content; and
# read(name, env_id, observation_keys).
SOURCES: tuple[ModuleType, ...] = (npz, d4rl_hdf5, generated, minari)
PLACEMENTS = "device", "host", "auto"


def load_dataset(
    name: str | os.PathLike,
    *,
    env_id: str | None = None,
    observation_keys: tuple[str, ...] = (),
    discount: float = 0.99,
    clip_actions: bool = False,
    trust_dataset_env: bool = False,
    placement: str = "device",
) -> Data:
    """Loads a dataset by name, from the cache where it has been read before.

    Args:
      name: A path ending in .npz (D4RL or OGBench keys), .hdf5 or .h5 (D4RL layout) or .shards (a
        folder written by `data.shard`); `pointmaze/{umaze,medium,large}` or
        `{cartpole,lunarlander,acrobot}/{random,medium,expert,mixed,narrow}`, optionally followed by
        `-N` for N transitions; or a Minari id such as `mujoco/hopper/medium-v0`, downloaded unless
        it is there.
      env_id: The environment to evaluate in, in place of the one the data name.
      observation_keys: Entries of a Dict observation to concatenate, in this order, where the
        choice made from the data is not wanted.
      discount: γ of the discounted return-to-go.
      clip_actions: Whether actions outside their bounds are clipped, with a warning, not refused.
      trust_dataset_env: Whether the environment may be made by code that the data name, where its
        id is not registered.
      placement: `device` for a `Dataset`; of a folder of shards also `host` for a `HostDataset`,
        or `auto` for that where device memory does not hold all rows.

    Raises:
      InputError: if the name is unknown (with the nearest known one), the placement is, or the data
        cannot be used.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(
            f"the dataset's name is a {type(name).__name__}; give a name or path, or make a "
            "dataset of arrays with dataset_from_arrays"
        )
    name = os.fspath(name)
    if placement not in PLACEMENTS:
        raise InputError(f"placement={placement!r}; give one of {', '.join(PLACEMENTS)}")
    if shards.matches(name):
        if env_id or observation_keys:
            raise InputError(
                f"{name} was written for its environment; give env_id and observation_keys where "
                "the shards are made"
            )
        folder = shards.open_folder(name, trust_dataset_env=trust_dataset_env)
        return with_discount(_placed(folder, placement), discount)
    if placement == "host":
        raise InputError(
            f"{name} is no folder of shards, which alone can stay in host memory; write one with "
            f"`offrl datasets shard {name} --output=NAME.shards`"
        )
    source = next((source for source in SOURCES if source.matches(name)), None)
    if source is None:
        raise InputError(_unknown(name))
    options = env_id, tuple(observation_keys)
    choices = {
        "discount": discount,
        "clip_actions": clip_actions,
        "trust_dataset_env": trust_dataset_env,
    }
    entry = cache.entry(source.__name__, source.stamp(name), *options)
    if stored := cache.read(entry):
        return stored.to_dataset(name, **choices)
    if entry and entry.exists():
        logging.warning("the stored copy of %s in %s is damaged; it is read anew", name, entry)
    recording = source.read(name, *options)
    dataset = recording.to_dataset(name, **choices)
    fields = recording.fields | {"fingerprint": dataset.spec.fingerprint}
    cache.write(entry, recording._replace(fields=fields))
    return dataset


def _placed(folder: HostDataset, placement: str) -> Data:
    """The shards on the device or in host memory.

    Raises:
      InputError: if device memory does not hold them.
    """
    size, limit = len(folder) * row_bytes(folder.spec, COLUMNS), memory.on_device()
    if placement == "host" or (placement == "auto" and size > limit):
        return folder
    if size > limit:
        raise InputError(
            f"the rows of {folder.spec.name} take {memory.gib(size)} but the device has room for "
            f"{memory.gib(limit)}; training reads them from the disk with placement=host, other "
            "uses need fewer rows"
        )
    return folder.on_device()


def known() -> dict[str, bool]:
    """Names of the datasets that are generated here or lie in Minari's folder, and whether they
    are in the cache as well."""
    names = dict.fromkeys(generated.names(), generated) | dict.fromkeys(minari.local_ids(), minari)
    return {name: _is_cached(name, source) for name, source in names.items()}


def _is_cached(name: str, source: ModuleType) -> bool:
    try:
        entry = cache.entry(source.__name__, source.stamp(name), None, ())
    except InputError:  # half a dataset
        return False
    return entry is not None and entry.is_dir()


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, generated.names() + minari.local_ids(), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    folders: dict[str, list[str]] = {}
    for folder, _, task in (known.partition("/") for known in generated.names()):
        folders.setdefault(folder, []).append(task)
    ours = ", ".join(f"{folder}/{{{','.join(tasks)}}}" for folder, tasks in folders.items())
    return (
        f"dataset {name!r} is neither a .npz, .hdf5 or .h5 file, nor a .shards folder, nor one of "
        f"{ours}, nor a Minari id (namespace/name-v0){hint}"
    )
