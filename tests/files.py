"""Small datasets as files, whole or with one thing wrong."""

import json
import os
from pathlib import Path

import h5py
import numpy as np

NAME = "test/task-v0"  # of the Minari dataset


def flat(**changes) -> dict[str, np.ndarray]:
    """D4RL's columns: an episode of 10 steps with a true end, and one of 10 that is timed out."""
    rng = np.random.default_rng(0)
    step = np.arange(20)
    return {
        "observations": rng.normal(size=(20, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (20, 2)).astype(np.float32),
        "rewards": np.arange(1.0, 21.0, dtype=np.float32),
        "terminals": step == 9,
        "timeouts": step == 19,
        "next_observations": rng.normal(size=(20, 3)).astype(np.float32),
    } | changes


def write_hdf5(path: Path, columns: dict[str, np.ndarray], **attributes) -> str:
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file[key] = values
        file.attrs.update(attributes)
    return str(path)


def write_npz(path: Path, columns: dict[str, np.ndarray], **more) -> str:
    np.savez(path, **columns, **more)
    return str(path)


def box(*shape, low=-1.0, high=1.0):
    size = int(np.prod(shape))
    low, high = (np.full(size, bound).reshape(shape).tolist() for bound in (low, high))
    return {"type": "Box", "dtype": "float64", "shape": list(shape), "low": low, "high": high}


def dictionary(**entries):
    return {"type": "Dict", "subspaces": entries}


def env_spec(**fields) -> str:
    """The description of an environment in Minari's metadata, with code that must never run."""
    return json.dumps({"entry_point": "os:system", "kwargs": {}, "max_episode_steps": 7} | fields)


def episode(length=3, index=0, **changes):
    rng = np.random.default_rng(index)
    return {
        "observations": rng.normal(size=(length + 1, 3)),
        "actions": rng.uniform(-1, 1, (length, 2)),
        "rewards": np.full(length, float(index)),
        "terminations": np.zeros(length, bool),
        "truncations": np.arange(length) == length - 1,
    } | changes


def write_minari(episodes, observation=None, action=None, name=NAME, **metadata) -> Path:
    """Writes episodes, each a dict of arrays or of dicts of arrays; returns their folder."""
    folder = Path(os.environ["MINARI_DATASETS_PATH"], name, "data")
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for i, episode in enumerate(episodes):
            group = file.create_group(f"episode_{i}")
            for key, values in episode.items():
                parts = values if isinstance(values, dict) else {"": values}
                for entry, array in parts.items():
                    group[f"{key}/{entry}".rstrip("/")] = array
    metadata = {
        "observation_space": json.dumps(observation or box(3)),
        "action_space": json.dumps(action or box(2)),
        "total_steps": sum(len(episode["actions"]) for episode in episodes),
        "total_episodes": len(episodes),
        "data_format": "hdf5",
        "minari_version": "0.5.3",
    } | metadata
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
