"""Compiled programs, kept from one command to the next."""

import jax

from offrl_jax.data import cache


def keep_programs() -> None:
    """Has JAX keep what it compiles beside the datasets, unless it is told where or not to."""
    directory = cache.root("programs")
    if jax.config.jax_compilation_cache_dir is None and directory is not None:
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
