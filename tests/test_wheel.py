"""The wheel holds the package alone, whole, and works without the checkout."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.markdown import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling is not installed; pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_it_is_small_and_holds_every_file_of_the_package_and_no_other(wheel):
    assert wheel.stat().st_size < 1_000_000
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "offrl_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files and "offrl_jax/py.typed" in names
    assert "offrl_jax/reports/published.json" in names


OFFRL = ("-P", "-c", "from offrl_jax.cli.__main__ import main; main()")  # as the script does
DATA = ("--dataset=pointmaze/umaze-600", "--num_steps=20", "--num_evaluations=1")


def test_it_trains_and_reports_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    places = {"PYTHONPATH": str(tmp_path / "site"), "OFFRL_JAX_CACHE": str(tmp_path / "cache")}
    data = (*DATA, "--num_evaluation_episodes=1")
    own = (*data, "--algorithm=mine:mine")
    for words in (
        (*OFFRL, "train", "--algorithm=bc", "--run_dir=runs/bc", *data),
        (*OFFRL, "new-algorithm", "mine"),
        ("test_mine.py",),
        (*OFFRL, "train", "--run_dir=runs/mine", *own),
        (*OFFRL, "sweep", "--sweep_dir=sweep", "--grid.learning_rate=1e-3,3e-4", *own),
        (*OFFRL, "evaluate", "runs/mine", "runs/bc", "--algorithm=mine:mine", "--num_episodes=1"),
        (*OFFRL, "report", "runs/bc", "runs/mine"),
    ):
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | places,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/mine/DONE").exists() and (tmp_path / "sweep/table.txt").exists()
    assert (tmp_path / "report/report.html").exists()
