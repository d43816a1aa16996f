import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from offrl_jax.cli import compiled_programs
from offrl_jax.cli.compiled_programs import keep_programs
from tests.commands import SMALL

ROOT = Path(__file__).parents[2]


def train(run_dir, cache):
    """What a run left, and what it wrote to standard error."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "offrl_jax.cli.train",
            "--algorithm=bc",
            *SMALL,
            f"--run_dir={run_dir}",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OFFRL_JAX_CACHE": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"},
    )
    assert done.returncode == 0, done.stderr
    names = "evaluations.jsonl", "policy/weights.npz"
    return [(run_dir / name).read_bytes() for name in names], done.stderr


@pytest.mark.slow
def test_kept_programs_give_the_same_bytes_and_nothing_is_compiled_twice(tmp_path):
    cache = tmp_path / "cache"
    (tmp_path / "file").touch()
    without, told = train(tmp_path / "without", tmp_path / "file" / "cache")  # cannot be written
    assert told.count("persistent compilation cache") == 1 and "Traceback" not in told
    first, _ = train(tmp_path / "first", cache)
    kept = set((cache / "programs").iterdir())
    assert any("_learn" in path.name for path in kept)
    second, told = train(tmp_path / "second", cache)
    assert without == first == second
    assert set((cache / "programs").iterdir()) == kept and "cache" not in told


@pytest.fixture
def settings():
    """JAX's, put back afterwards."""
    names = [name for name in dir(jax.config) if "persistent_cache" in name or "cache_dir" in name]
    before = {name: getattr(jax.config, name) for name in names}
    yield before
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_directory_that_the_user_chose_is_left_as_it_is(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    keep_programs()
    assert {name: getattr(jax.config, name) for name in settings} == settings | {
        "jax_compilation_cache_dir": "/elsewhere"
    }
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "programs")


def test_the_oldest_programs_go_where_they_are_too_many(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(compiled_programs, "MOST_BYTES", 25)
    (tmp_path / "programs").mkdir()
    for age, name in enumerate("abc"):
        (tmp_path / "programs" / name).write_bytes(b"0123456789")
        os.utime(tmp_path / "programs" / name, (1000 - age, 1000 - age))
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert sorted(path.name for path in (tmp_path / "programs").iterdir()) == ["a", "b"]
