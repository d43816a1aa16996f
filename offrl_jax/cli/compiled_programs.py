"""Keeps compiled programs from one command to the next."""

import contextlib
from pathlib import Path

import jax

from offrl_jax.data import cache

MOST_BYTES = 1_000_000_000  # of programs; those of the default task take 0.8 MB


def keep_programs() -> None:
    """Makes JAX cache programs beside the datasets, unless its own options say otherwise."""
    directory = cache.root("programs")
    if jax.config.jax_compilation_cache_dir is None and directory is not None:
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        _drop_oldest(directory)


def _drop_oldest(directory: Path) -> None:
    """Removes the oldest programs until the rest take at most MOST_BYTES."""
    with contextlib.suppress(OSError):  # there are none yet, or another command removes them too
        files = sorted((path.stat().st_mtime, path) for path in directory.iterdir())
        total = sum(path.stat().st_size for _, path in files)
        for _, path in files:
            if total <= MOST_BYTES:
                break
            total -= path.stat().st_size
            path.unlink()
