"""Commands as tasks of a cluster, or of processes on this machine, by submitit."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.messages import say
from offrl_jax.data.optional import require
from offrl_jax.types import InputError


class Task:
    """A command that saves and stops when its machine is to be taken away, and is queued again."""

    def __init__(self, command: Sequence[str]):
        self._command = command

    def __call__(self) -> None:
        """Raises RuntimeError if it fails."""
        self._process = subprocess.Popen(self._command)
        if code := self._process.wait():
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """What is to be queued again; submitit calls this on the signal that it has Slurm send."""
        from submitit.helpers import DelayedSubmission

        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            # Its own wait() is under way below this handler, and holds a lock.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self._command))


def run(
    commands: Mapping[str, Sequence[str]], folder: Path, cluster: str, options: Sequence[str]
) -> dict[str, Path]:
    """Runs all of them at once, as far as the cluster has room, and waits for their end.

    Args:
      commands: By name.
      folder: For submitit's files, the tasks' output among them; seen by all machines.
      cluster: "slurm" or "local".
      options: NAME=VALUE for submitit's `AutoExecutor.update_parameters`.

    Returns:
      By name where its errors are, of those that failed.

    Raises:
      InputError: without submitit or the cluster, or if it does not take the options.
    """
    submitit = require("submitit", "a launcher")
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**dict(_option(option) for option in options))
        jobs = {name: executor.submit(Task(command)) for name, command in commands.items()}
    except (RuntimeError, NameError, ValueError, TypeError, OSError) as error:
        raise InputError(
            f"launcher={cluster} with launcher_options={','.join(options)} cannot be used "
            f"({error}); correct the options, or run each --job by yourself"
        ) from error
    for name, job in jobs.items():
        say(f"{name} is {cluster} {job.job_id}; its output goes to {job.paths.stderr}")
    return {
        name: job.paths.stderr
        for name, job in jobs.items()
        if job.exception() is not None  # which waits
    }


def _option(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} has no value")
    return name, int(value) if value.isdecimal() else value
