"""Runs commands as tasks of a cluster or processes of this machine, by submitit or Ray."""

import contextlib
import ctypes
import datetime
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offrl_jax.cli.command_line import STOPPED_CODE
from offrl_jax.data.optional import require
from offrl_jax.runs.messages import say
from offrl_jax.types import InputError


class Task:
    """A command that saves and stops when it is preempted, and is queued again."""

    def __init__(self, command: Sequence[str]):
        self._command = command

    def __call__(self) -> None:
        """Raises RuntimeError if it fails."""
        self._process = subprocess.Popen(self._command)
        if code := self._process.wait():
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """The task to queue again; submitit calls this on the signal that Slurm sends."""
        from submitit.helpers import DelayedSubmission

        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            # The process's own wait() is running below this handler, and holds a lock.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self._command))


def run(
    commands: Mapping[str, Sequence[str]], folder: Path, cluster: str, options: Sequence[str]
) -> dict[str, Path]:
    """Runs all commands at once, as far as the cluster has room, and waits until they end.

    Args:
      commands: Commands by name.
      folder: For the tasks' output and submitit's files, on a file system that all machines share.
      cluster: "slurm", "local" or "ray".
      options: NAME=VALUE for submitit's `AutoExecutor.update_parameters`, or for a Ray task's
        `options`, such as num_gpus, beside the `address` of its cluster.

    Returns:
      For each command that failed, by name, where its errors are.

    Raises:
      InputError: if submitit, Ray or the cluster is missing, the options are refused, or a machine
        of Ray's cluster cannot run a command in this folder.
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
        tasks = {executor.submit(Task(command)): name for name, command in commands.items()}
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError, OSError) as error:
        raise _refused(cluster, options, error) from error
    for task, name in tasks.items():
        say(f"{name} is {cluster} {task.job_id}; its output goes to {task.paths.stderr}")
    started, failed = time.monotonic(), {}
    ended = submitit.helpers.as_completed(list(tasks), poll_frequency=1)
    for num_ended, task in enumerate(ended, 1):
        if task.exception() is not None:
            failed[tasks[task]] = task.paths.stderr
        _say_end(tasks[task], failed, num_ended, len(tasks), started)
    return failed


def _by_ray(
    commands: Mapping[str, Sequence[str]], folder: Path, cluster: str, options: Sequence[str]
) -> dict[str, Path]:
    """Ray itself reruns a task whose machine is lost; a stopped task is submitted again here."""
    ray = require("ray", "a launcher")
    # Ray's machines may lack this module.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    marker = folder / f"launched.{secrets.token_hex(16)}"
    outputs = {name: folder / f"{name.replace(' ', '_')}.log" for name in commands}
    tasks: dict[Any, str] = {}

    def submit(name: str) -> None:
        tasks[task.remote(commands[name], os.getcwd(), outputs[name], marker, variables)] = name

    try:
        folder.mkdir(parents=True, exist_ok=True)
        given = {"max_retries": -1} | dict(_option(option) for option in options)
        address = given.pop("address", None)
        variables = _own_variables(given)
        task = ray.remote(attempt).options(**given)
        host, _, port = (address or "").removeprefix("ray://").rpartition(":")
        if host:  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=30).close()
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
        marker.touch()
        for name in commands:
            submit(name)
            say(f"{name} is a task of Ray; its output goes to {outputs[name]}")
        _warn_of_too_much(given, ray.nodes())
    except Exception as error:  # Ray raises that itself where it cannot start
        ray.shutdown()
        raise _refused(cluster, options, error) from error
    started, failed = time.monotonic(), {}
    try:
        while tasks:
            (ready, *_), _ = ray.wait(list(tasks))
            name = tasks.pop(ready)
            try:
                outcome = ray.get(ready)
            except ray.exceptions.RayError as error:
                say(f"{name}: {error}")
                outcome = None
            if isinstance(outcome, str):
                raise InputError(outcome)
            if outcome == STOPPED_CODE:
                say(f"{name} was stopped and is submitted again")
                submit(name)
                continue
            if outcome != 0:
                failed[name] = outputs[name]
            _say_end(name, failed, len(commands) - len(tasks), len(commands), started)
    finally:
        ray.shutdown()
        marker.unlink(missing_ok=True)
    return failed


def attempt(
    command: Sequence[str], cwd: str, output: Path, marker: Path, variables: Mapping[str, str]
) -> int | str:
    """Runs a command in a worker of Ray; neither outlives the other.

    Args:
      command: The command.
      cwd: Its working directory.
      output: File to append its output to.
      marker: A file that exists if this machine sees the folder of the one that started the sweep.
      variables: Environment variables, unless this machine sets them itself.

    Returns:
      The exit code, or a sentence that says why this machine cannot run the command.
    """
    machine = socket.gethostname()
    if not os.path.exists(marker):
        return (
            f"{machine} does not see the files that were just written to {marker.parent}; mount "
            "the same file system there on all machines of the cluster, or give a --sweep_dir "
            "that they share"
        )
    die_with_parent = None
    if sys.platform == "linux":
        prctl, set_signal = ctypes.CDLL(None).prctl, 1  # PR_SET_PDEATHSIG
        die_with_parent = functools.partial(prctl, set_signal, int(signal.SIGKILL))
    try:
        with output.open("ab") as log:
            return subprocess.run(
                command,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env={**variables, **os.environ},
                preexec_fn=die_with_parent,
            ).returncode
    except OSError as error:
        return (
            f"{machine} cannot run {command[0]} in {cwd} ({error}); install the package at the "
            "same path on all machines of the cluster"
        )


def _own_variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Variables that limit JAX to a task's resources; else it takes all cores and most of a GPU."""
    variables = {"JAX_NUM_CPU_DEVICES": str(max(1, int(given.get("num_cpus", 1))))}
    if 0 < (share := given.get("num_gpus", 0)) < 1:
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * share:.3f}"
    return variables


def _warn_of_too_much(given: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> None:
    """Warns if no machine has the resources that a task asks for; Ray would wait silently."""
    wanted = {"CPU": given.get("num_cpus", 1), "GPU": given.get("num_gpus", 0)}
    alive = [machine["Resources"] for machine in machines if machine["Alive"]]
    if not any(all(has.get(k, 0) >= n for k, n in wanted.items()) for has in alive):
        say(
            f"no machine of the cluster has num_cpus={wanted['CPU']} and num_gpus={wanted['GPU']}; "
            "the jobs wait until one joins"
        )


def _say_end(
    name: str, failed: Mapping[str, Path], num_ended: int, num_tasks: int, started: float
) -> None:
    clock = datetime.timedelta(seconds=round(time.monotonic() - started))
    how = f"failed, see {failed[name]}" if name in failed else "is done"
    failures = f", {len(failed)} failed" if failed else ""
    say(f"{name} {how}: {num_ended - len(failed)} of {num_tasks} jobs done{failures} after {clock}")


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
