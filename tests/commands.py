"""Runs commands in one process, which is not the tests' own: flags are global, and commands share
their names."""

import contextlib
import importlib
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.help import GROUPS, own_flags

SMALL = (  # flags of a training of seconds; for bc, which has these settings
    "--dataset=pointmaze/umaze-600",
    "--num_steps=20",
    "--num_seeds=2",
    "--num_evaluations=2",
    "--num_evaluation_episodes=1",
    "--config.network=8",
    "--config.batch_size=8",
)


def run(command: ModuleType, *flags: str) -> dict[str, Any]:
    """What it printed, and its exit code or an error that it let through."""
    for name in [name for name in FLAGS if name.startswith(("config.", "grid."))]:
        delattr(FLAGS, name)
        del GROUPS[name]
    for flag in itertools.chain(*own_flags(command).values()):
        flag.unparse()
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = [command.__name__, *flags]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            launch(command.main, getattr(command, "CONFIG", None))
        except SystemExit as stop:
            code = stop.code or 0
        except Exception as error:
            code = repr(error)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def run_apart(name: str, cases: dict[str, list[str]], **environment: str) -> dict[str, Any]:
    """`run` of a command on every case's words, in order, in one process of its own."""
    module = name if "." in name else f"offrl_jax.cli.{name}"
    command = [sys.executable, "-m", "tests.commands", module, json.dumps(cases)]
    root, variables = Path(__file__).parent.parent, os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    results = {case: run(module, *words) for case, words in json.loads(sys.argv[2]).items()}
    print(json.dumps(results))
