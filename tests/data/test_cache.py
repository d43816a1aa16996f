import dataclasses
import os

import jax
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data import cache
from offrl_jax.data.sources import npz


@pytest.fixture
def path(tmp_path, columns):
    np.savez(tmp_path / "data.npz", **columns)
    return str(tmp_path / "data.npz")


@pytest.fixture
def reads(monkeypatch):
    """Counts how often the source itself is read."""
    calls = []
    read = npz.read
    monkeypatch.setattr(npz, "read", lambda *given: calls.append(given) or read(*given))
    return calls


def entry():
    return next(cache.root().iterdir())


def test_second_load_is_the_same_and_from_the_cache(path, reads):
    first = data.load_dataset(path)
    second = data.load_dataset(path, discount=0.9)
    assert len(reads) == 1
    assert second.spec == first.spec and first.spec.fingerprint
    np.testing.assert_array_equal(second.transitions.reward, first.transitions.reward)
    assert second.transitions.return_to_go[0] != first.transitions.return_to_go[0]
    again = data.load_dataset(path)
    assert jax.tree.structure(again) == jax.tree.structure(first)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(first), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cached_equals_uncached(path, monkeypatch):
    data.load_dataset(path)
    cached = data.load_dataset(path)
    monkeypatch.setattr(cache, "root", lambda: None)
    direct = data.load_dataset(path)
    assert dataclasses.asdict(cached.spec) == dataclasses.asdict(direct.spec)
    for a, b in zip(jax.tree.leaves(cached), jax.tree.leaves(direct), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_load_hashes_the_stored_arrays_and_nothing_else(path, monkeypatch):
    first = data.load_dataset(path).spec.fingerprint
    hashed = []
    fingerprint = cache.fingerprint
    monkeypatch.setattr(cache, "fingerprint", lambda *x: hashed.append(x) or fingerprint(*x))
    monkeypatch.setattr("offrl_jax.data.dataset.fingerprint", None)
    assert data.load_dataset(path).spec.fingerprint == first
    assert len(hashed) == 1


def test_changed_file_and_changed_options_are_read_anew(path, columns, reads):
    data.load_dataset(path)
    data.load_dataset(path, observation_keys=("observation",))
    assert len(reads) == 2
    np.savez(path, **columns | {"rewards": columns["rewards"] + 1})
    os.utime(path, ns=(1, 1))
    assert data.load_dataset(path).transitions.reward[0] == 2
    assert len(reads) == 3


@pytest.mark.parametrize("file", ["reward.npy", "fields.json"])
@pytest.mark.parametrize("damage", ["truncate", "remove", "garble"])
def test_unreadable_entry_is_rebuilt(path, reads, file, damage):
    first = data.load_dataset(path)
    victim = entry() / file
    content = victim.read_bytes()
    victim.unlink()
    if damage != "remove":
        victim.write_bytes(content[:-3] if damage == "truncate" else b"[1]")
    assert data.load_dataset(path).spec == first.spec
    data.load_dataset(path)
    assert len(reads) == 2  # the entry was repaired


def test_nothing_but_whole_entries_is_left(path):
    data.load_dataset(path)
    assert len(list(cache.root().iterdir())) == 1
    assert not entry().name.startswith(".")


def test_losing_a_race_is_no_error(path, monkeypatch):
    data.load_dataset(path)
    stored = cache.read(entry())
    cache.write(entry(), stored)
    assert cache.read(entry()) is not None
    assert len(list(cache.root().iterdir())) == 1


def test_unwritable_cache_does_not_stop_a_load(path, tmp_path, monkeypatch, reads):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "file"))
    assert len(data.load_dataset(path)) == 5
    assert len(data.load_dataset(path)) == 5
    assert len(reads) == 2


def test_without_platformdirs_data_are_read_anew(path, monkeypatch, reads):
    monkeypatch.delenv("OFFRL_JAX_CACHE")
    monkeypatch.setitem(__import__("sys").modules, "platformdirs", None)
    data.load_dataset(path)
    data.load_dataset(path)
    assert len(reads) == 2
