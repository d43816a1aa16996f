"""Names: which source answers, and what is said where none does."""

import subprocess
import sys

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data.optional import require
from offrl_jax.types import InputError


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("pointmaze/umze", "pointmaze/umaze"),
        ("pointmaze/lage", "pointmaze/large"),
        ("pointmaze/medium-", "pointmaze/medium"),
    ],
)
def test_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(InputError, match=f"did you mean {nearest}"):
        data.load_dataset(name)


def test_unknown_name_considers_local_minari_ids(tmp_path):
    folder = tmp_path / "minari/mujoco/hopper/medium-v0/data"
    folder.mkdir(parents=True)
    (folder / "main_data.hdf5").touch()
    with pytest.raises(InputError, match="did you mean mujoco/hopper/medium-v0"):
        data.load_dataset("mujoco/hopper/medium")


def test_message_is_one_sentence():
    with pytest.raises(InputError) as caught:
        data.load_dataset("hello")
    assert "\n" not in str(caught.value) and "did you mean" not in str(caught.value)


def test_missing_file_names_its_neighbour(tmp_path, columns):
    np.savez(tmp_path / "hopper.npz", **columns)
    with pytest.raises(InputError, match=r"no file .*hoper\.npz; did you mean .*hopper\.npz"):
        data.load_dataset(str(tmp_path / "hoper.npz"))


def test_missing_package_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r'reading x needs h5py.* pip install "h5py"'):
        require("h5py", "reading x")


def test_data_imports_and_reads_npz_without_the_optional_packages(tmp_path, columns):
    path = tmp_path / "data.npz"
    np.savez(path, **columns, env_id="Hopper-v5")
    program = f"""
import sys
for absent in ("h5py", "minari", "gymnasium", "gymnasium_robotics", "mujoco", "platformdirs"):
    sys.modules[absent] = None
from offrl_jax import data
dataset = data.load_dataset({str(path)!r})
assert len(dataset) == 5 and dataset.spec.action_low == (-1.0, -1.0)
assert dataset.spec.env_id == "Hopper-v5"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[-1, 1]" in done.stderr  # says what it assumes
