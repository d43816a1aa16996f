"""Minari datasets, read straight from their files in one pass."""

import difflib
import json
import math
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.data import cache, scores
from offrl_jax.data.optional import require
from offrl_jax.data.recording import Recording
from offrl_jax.data.sources import hdf5
from offrl_jax.data.sources.d4rl_hdf5 import recorded_reference
from offrl_jax.data.streaming import memory
from offrl_jax.types import InputError

ID = re.compile(r"(?:[\w-]+/)*[\w-]*\w-v\d+")
EPISODE = re.compile(r"episode_\d+")
VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\w+)*")
KNOWN_VERSION = (0, 5)
KEY_ORDER = ("achieved_goal", "observation", "desired_goal")
PACKAGE = "minari[hf,gcs]"
PROBE_SECONDS = 3.0
HUBS = {  # scheme of MINARI_REMOTE: address, the client that minari needs for it
    "hf": ("https://huggingface.co", "huggingface_hub"),
    "gcp": ("https://storage.googleapis.com", "google.cloud.storage"),
}


def matches(name: str) -> bool:
    """Whether a name is, or has the ending of, a Minari id."""
    return re.search(r"-v\d+$", name) is not None


def stamp(name: str) -> list:
    return cache.stamp(*_files(name))


def read(name: str, env_id: str | None, observation_keys: tuple[str, ...]) -> Recording:
    """Reads every episode, in the order of their numbers, into flat arrays."""
    data, description = _files(name)
    try:
        metadata = json.loads(description.read_text())
        _check_version(name, metadata.get("minari_version"))
        space, actions = (
            json.loads(metadata[f"{what}_space"]) for what in ("observation", "action")
        )
        fields = _environment(metadata, env_id) | _actions(name, actions)
        keys = _observation_keys(name, space, observation_keys)
        boxes = [space["subspaces"][key] for key in keys] if keys else [space]
        widths = [math.prod(box["shape"]) for box in boxes]
        action_size = 1 if "num_actions" in fields else math.prod(actions["shape"])
        if not all(isinstance(size, int) and size > 0 for size in (*widths, action_size)):
            raise ValueError(f"spaces of {widths} and {action_size} numbers")
        num_transitions, num_episodes = metadata["total_steps"], metadata.get("total_episodes")
        for count in (num_transitions, 1 if num_episodes is None else num_episodes):
            if type(count) is not int or count < 1:
                raise ValueError(f"{num_transitions} steps in {num_episodes} episodes")
    except InputError:
        raise
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InputError(
            f"metadata.json of {name} is not as Minari writes it ({error!r}); "
            "download the dataset again"
        ) from error
    sizes = {"observations": 2 * sum(widths), "actions": action_size, "rewards": 1, "flags": 2}
    bytes_each = {field: 4 * num_transitions * width for field, width in sizes.items()}
    memory.check(f"metadata.json of {name}", bytes_each)
    with hdf5.opened(str(data)) as file:
        episodes = _in_order(name, file, num_episodes)
        arrays = _read_episodes(name, file, episodes, keys, widths, action_size, num_transitions)
    if not observation_keys and keys[:2] == KEY_ORDER[:2]:
        keys = _drop_repeated_goal(arrays, keys, widths[0])
    return Recording(arrays, fields | {"observation_keys": keys})


def _actions(name: str, space: dict[str, Any]) -> dict[str, Any]:
    """Bounds of continuous actions, or the number of discrete ones."""
    if space["type"] == "Box":
        return {
            "action_low": tuple(np.ravel(space["low"]).astype(float).tolist()),
            "action_high": tuple(np.ravel(space["high"]).astype(float).tolist()),
        }
    if space["type"] == "Discrete" and space.get("start", 0) == 0:
        return {"num_actions": int(space["n"])}
    raise InputError(
        f"{name} has {space['type']} actions; continuous ones, or indices from 0 on, can be learnt"
    )


def local_ids() -> list[str]:
    """Ids of the datasets on this machine."""
    files = _root().glob("**/data/main_data.hdf5")
    return sorted(file.parent.parent.relative_to(_root()).as_posix() for file in files)


def _root() -> Path:
    return Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")).expanduser()


def _files(name: str) -> tuple[Path, Path]:
    """Paths of the data and of their description, downloaded where they are not there yet."""
    if not ID.fullmatch(name):
        raise InputError(
            f"{name} is no Minari id: one has the form namespace/name-v0 and never leaves the "
            "datasets' folder; give a file's path with its ending to read a file"
        )
    folder = _root() / name / "data"
    if not folder.is_dir():
        _download(name)
    files = folder / "main_data.hdf5", folder / "metadata.json"
    if absent := [file for file in files if not file.is_file()]:
        raise InputError(
            f"Minari dataset {name} has no {absent[0].name}, being incomplete or not stored as "
            f"HDF5; delete {folder.parent} and download it again"
        )
    return files


def _download(name: str) -> None:
    hub, client = HUBS.get(os.environ.get("MINARI_REMOTE", "").partition("://")[0], HUBS["hf"])
    try:  # the download itself would retry for long before it gives up
        urllib.request.urlopen(hub, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        near = difflib.get_close_matches(name, local_ids(), n=1)
        raise InputError(
            f"Minari dataset {name} is not in {_root()} and {hub} cannot be reached ({error}); "
            f"{f'did you mean {near[0]}?' if near else 'copy it there or connect to the network'}"
        ) from error
    purpose = f"downloading Minari dataset {name}"
    require(client, purpose, package=PACKAGE)
    minari = require("minari", purpose, package=PACKAGE)
    try:
        minari.download_dataset(name)
    except Exception as error:  # whatever the hub's client raises
        raise InputError(f"Minari dataset {name} could not be downloaded: {error}") from error


def _observation_keys(name: str, space: dict[str, Any], chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Entries of the observation to concatenate; none where it is one array."""
    if space["type"] == "Box" and not chosen:
        return ()
    entries = space.get("subspaces", {})
    if space["type"] != "Dict" or not set(chosen) <= set(entries):
        raise InputError(
            f"observations of {name} are a {space['type']} "
            f"with {', '.join(entries) or 'no entries'}; "
            f"{', '.join(chosen) or 'that'} cannot be read from it"
        )
    keys = chosen or tuple(key for key in KEY_ORDER if key in entries)
    unread = [key for key in entries if key not in keys] if not chosen else []
    nested = [key for key in keys if entries[key]["type"] != "Box"]
    if unread or nested or not keys:
        raise InputError(
            f"observations of {name} have entries {', '.join(entries)}, of which "
            f"{', '.join(nested or unread)} cannot be flattened by rule; name the arrays to use, "
            "such as observation_keys=observation"
        )
    return keys


def _read_episodes(
    name: str,
    file: Any,
    episodes: list[str],
    keys: tuple[str, ...],
    widths: list[int],
    action_size: int,
    num_transitions: int,
) -> dict[str, np.ndarray]:
    arrays = {
        "observation": np.empty((num_transitions, sum(widths)), np.float32),
        "next_observation": np.empty((num_transitions, sum(widths)), np.float32),
        "action": np.empty((num_transitions, action_size), np.float32),
        "reward": np.empty(num_transitions, np.float32),
        "terminal": np.empty(num_transitions, np.float32),
        "timeout": np.empty(num_transitions, np.float32),
    }
    sources = {
        "action": "actions",
        "reward": "rewards",
        "terminal": "terminations",
        "timeout": "truncations",
    }
    columns = np.cumsum([0, *widths]).tolist()
    start = 0
    for key in episodes:
        episode = hdf5.member(name, file, key)
        num_steps = len(hdf5.array(name, episode, "actions"))
        rows = slice(start, start + num_steps)
        start = rows.stop
        if start > num_transitions:
            break
        for field, source in sources.items():
            values = hdf5.array(name, episode, source)
            if len(values) != num_steps:
                raise InputError(
                    f"{key} of {name} has {len(values)} {source} but {num_steps} actions; "
                    "repair or drop that episode"
                )
            arrays[field][rows] = _numbers(name, key, values, arrays[field][rows].shape)
        for field in ("terminal", "timeout"):
            if len(early := np.flatnonzero(arrays[field][rows][:-1] == 1)):
                raise InputError(
                    f"{key} of {name} has {sources[field]} set at step {early[0]} of "
                    f"{num_steps}, counted from 0, before its last; split or drop that episode"
                )
        if num_steps and not arrays["terminal"][rows.stop - 1]:
            arrays["timeout"][rows.stop - 1] = 1  # the next one begins, flagged or not
        parts = (
            [(hdf5.member(name, episode, "observations"), entry) for entry in keys]
            if keys
            else [(episode, "observations")]
        )
        for (group, entry), low, high in zip(parts, columns, columns[1:], strict=False):
            values = hdf5.array(name, group, entry)
            if len(values) != num_steps + 1:
                raise InputError(
                    f"{key} of {name} has {len(values)} observations for {num_steps} actions "
                    "where one more than actions is needed; repair or drop that episode"
                )
            values = _numbers(name, key, values, (num_steps + 1, high - low))
            arrays["observation"][rows, low:high] = values[:-1]
            arrays["next_observation"][rows, low:high] = values[1:]
    if start != num_transitions:
        raise InputError(
            f"metadata.json of {name} says {num_transitions} steps but its episodes hold "
            f"{'more' if start > num_transitions else start}; download the dataset again"
        )
    return arrays


def _in_order(name: str, file: Any, num_episodes: int | None) -> list[str]:
    """Names of the episodes by number (HDF5 lists episode_10 before episode_2)."""
    found = {key for key in file if EPISODE.fullmatch(key)}
    names = [f"episode_{number}" for number in range(len(found))]
    if missing := [episode for episode in names if episode not in found]:
        raise InputError(
            f"{name} has no {missing[0]} among its {len(found)} episodes; download it again"
        )
    if num_episodes not in (None, len(found)):
        raise InputError(
            f"metadata.json of {name} says {num_episodes} episodes but there are {len(found)}; "
            "download the dataset again"
        )
    return names


def _check_version(name: str, version: Any) -> None:
    """Raises InputError where data are of a format later than those known, or of none."""
    if version is None:
        return
    match = VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None or (int(match[1]), int(match[2])) > KNOWN_VERSION:
        raise InputError(
            f"{name} is of Minari's format {str(version)[:20]!r} but those up to "
            f"{KNOWN_VERSION[0]}.{KNOWN_VERSION[1]} are known; update offrl_jax, or download the "
            "dataset again if that is no version"
        )


def _numbers(name: str, key: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An episode's array, flattened to the given shape."""
    if values.dtype.kind not in "fiub" or values.size != math.prod(shape):
        raise InputError(
            f"{values.name} of {name} holds {values.dtype} of shape {values.shape} where numbers "
            f"of shape {shape} are described"
        )
    with np.errstate(all="ignore"):  # what float32 cannot hold is refused as not finite
        return hdf5.read(name, values).astype(np.float32).reshape(shape)


def _drop_repeated_goal(
    arrays: dict[str, np.ndarray], keys: tuple[str, ...], width: int
) -> tuple[str, ...]:
    """Leaves out an achieved goal that the observation begins with (PointMaze, not AntMaze)."""
    observation = arrays["observation"]
    if not np.array_equal(observation[:, :width], observation[:, width : 2 * width]):
        return keys
    for field in ("observation", "next_observation"):
        arrays[field] = arrays[field][:, width:]
    return keys[1:]


def _environment(metadata: dict[str, Any], env_id: str | None) -> dict[str, Any]:
    """Fields of Spec on evaluation: id, arguments, time limit and the code behind the id."""
    recorded = metadata.get("eval_env_spec") or metadata.get("env_spec")
    recorded = json.loads(recorded) if recorded else {}
    reference = recorded_reference(metadata.get("ref_min_score"), metadata.get("ref_max_score"))
    if env_id and env_id != recorded.get("id"):
        recorded = {"id": env_id, "kwargs": dict(scores.family(env_id).needs)}
        reference = None  # it belongs to the recorded environment
    kwargs = recorded.get("kwargs") or {}
    fields = {
        "env_id": recorded.get("id"),
        "env_entry_point": recorded.get("entry_point"),
        "max_episode_steps": recorded.get("max_episode_steps"),
    }
    env_recorded, entry_point, limit = fields.values()
    if not (
        isinstance(kwargs, dict)
        and isinstance(env_recorded, str | None)
        and isinstance(entry_point, str | None)
        and (limit is None or (type(limit) is int and limit > 0))
    ):
        raise ValueError(f"an environment of {fields} and {kwargs}")
    return fields | {
        "env_kwargs": json.dumps(kwargs),
        "reference_scores": reference or scores.reference_scores(fields["env_id"], kwargs),
    }
