"""Sizes that files declare, held against the machine's memory before any of it is used."""

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path

import jax

from offrl_jax.types import InputError

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@functools.cache
def available() -> float:
    """Bytes that this process may have at most, as far as the system says."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        limits = [math.inf]
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # absent, or without a limit
            continue
    return min(limits)


def on_device() -> float:
    """Bytes of data that a device should hold at most: half of its memory, the rest being for
    transforms of the data and for what learns from them."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None:  # CPUs share the machine's, and each has a copy
        limit = available() / jax.local_device_count()
    return limit / 2


def check(name: str, sizes: Mapping[str, int]) -> None:
    """Raises InputError where a file's fields, of the given bytes, cannot all be held."""
    total, limit = sum(sizes.values()), available()
    if total > limit:
        largest = max(sizes, key=sizes.get)
        raise InputError(
            f"{name} declares {gib(total)} of arrays, {gib(sizes[largest])} of them in "
            f"{largest!r}, but there are {gib(limit)} of memory; fetch it again if it is damaged, "
            "or load a part of it"
        )


def gib(size: float) -> str:
    """The size in words."""
    return f"{min(size, 2**90) / 2**30:,.1f} GiB"
