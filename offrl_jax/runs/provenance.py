"""What a number can be traced to: versions, machine, commit and command."""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from offrl_jax import environments
from offrl_jax.devices import num_cores

PACKAGES = (
    "offrl-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "orbax-checkpoint",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "box2d",
    "minari",
    "h5py",
)


def describe_environment(command: Sequence[str]) -> dict[str, Any]:
    """Versions, machine, commit, command and time, of JSON's types."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": environments.versions(PACKAGES),
        "cpu": _cpu(),
        "devices": [str(device) for device in jax.devices()],
        "device_kind": jax.devices()[0].device_kind,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "num_threads": num_cores(),
        "commit": _commit(),
        "command": list(command),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _cpu() -> str:
    """The processor's model, or its architecture if the system does not report the model."""
    cpus = Path("/proc/cpuinfo")
    text = cpus.read_text() if cpus.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of a source checkout, with `-dirty` if it was changed; None elsewhere."""
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    if not git("ls-files", Path(__file__).name):  # installed below someone else's repository
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
