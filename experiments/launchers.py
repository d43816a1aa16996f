"""Commands as tasks of a cluster, or of processes on this machine, by submitit or Ray."""

import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command_line import STOPPED_CODE
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
      folder: For the tasks' output and submitit's files; seen by all machines.
      cluster: "slurm", "local" or "ray".
      options: NAME=VALUE for submitit's `AutoExecutor.update_parameters`, or for a Ray task's
        `options`, such as num_gpus, beside the `address` of its cluster.

    Returns:
      By name where its errors are, of those that failed.

    Raises:
      InputError: without submitit, Ray or the cluster, or if it does not take the options.
    """
    launch = _by_ray if cluster == "ray" else _by_submitit
    return launch(commands, folder, cluster, options)


def _by_submitit(
    commands: Mapping[str, Sequence[str]], folder: Path, cluster: str, options: Sequence[str]
) -> dict[str, Path]:
    submitit = require("submitit", "a launcher")
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**dict(_option(option) for option in options))
        jobs = {name: executor.submit(Task(command)) for name, command in commands.items()}
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError, OSError) as error:
        raise _refused(cluster, options, error) from error
    for name, job in jobs.items():
        say(f"{name} is {cluster} {job.job_id}; its output goes to {job.paths.stderr}")
    return {
        name: job.paths.stderr
        for name, job in jobs.items()
        if job.exception() is not None  # which waits
    }


def _by_ray(
    commands: Mapping[str, Sequence[str]], folder: Path, cluster: str, options: Sequence[str]
) -> dict[str, Path]:
    """Ray runs a task again whose machine is lost; one that stops by itself is submitted again."""
    ray = require("ray", "a launcher")

    def code_of(command: Sequence[str], directory: str, output: Path) -> int:
        """Runs it in a worker, which does not outlive it, nor it the worker."""
        die_with_parent = None
        if sys.platform == "linux":
            prctl, set_signal = ctypes.CDLL(None).prctl, 1  # PR_SET_PDEATHSIG
            die_with_parent = functools.partial(prctl, set_signal, int(signal.SIGKILL))
        with output.open("ab") as log:
            return subprocess.run(
                command, stdout=log, stderr=log, cwd=directory, preexec_fn=die_with_parent
            ).returncode

    outputs = {name: folder / f"{name.replace(' ', '_')}.log" for name in commands}
    tasks: dict[Any, str] = {}

    def submit(name: str) -> None:
        tasks[task.remote(commands[name], os.getcwd(), outputs[name])] = name

    try:
        folder.mkdir(parents=True, exist_ok=True)
        given = {"max_retries": -1} | dict(_option(option) for option in options)
        address = given.pop("address", None)
        task = ray.remote(code_of).options(**given)
        host, _, port = (address or "").removeprefix("ray://").rpartition(":")
        if host:  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=30).close()
        ray.init(address=address, log_to_driver=False)
        for name in commands:
            submit(name)
            say(f"{name} is a task of Ray; its output goes to {outputs[name]}")
    except Exception as error:  # Ray raises that itself where it cannot start
        ray.shutdown()
        raise _refused(cluster, options, error) from error
    failed = {}
    try:
        while tasks:
            (ready, *_), _ = ray.wait(list(tasks))
            name = tasks.pop(ready)
            try:
                code = ray.get(ready)
            except ray.exceptions.RayError as error:
                say(f"{name}: {error}")
                code = None
            if code == STOPPED_CODE:
                say(f"{name} was stopped and is submitted again")
                submit(name)
            elif code != 0:
                failed[name] = outputs[name]
    finally:
        ray.shutdown()
    return failed


def _refused(cluster: str, options: Sequence[str], error: Exception) -> InputError:
    return InputError(
        f"launcher={cluster} with launcher_options={','.join(options)} cannot be used "
        f"({error}); correct the options, or run each --job by yourself"
    )


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} has no value")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)  # a number
    return name, value
