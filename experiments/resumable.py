"""Commands that compare methods one after another, and go on where they were stopped."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from offrl_jax import runs
from offrl_jax.files import finite, replacing
from offrl_jax.provenance import describe_environment
from offrl_jax.types import InputError

CURVES = "curves.jsonl"


def finished(output: Path, settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What a stopped run with the same settings left in the folder, by method; makes the folder,
    with `config.json` and `environment.json` (which holds the facts too), if there is none.

    Raises:
      InputError: if the folder holds something else.
    """
    path, text = output / "config.json", json.dumps(settings, indent=2)
    if not path.exists():
        runs.check_run_dir(output).mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        environment = describe_environment(sys.argv) | facts
        (output / "environment.json").write_text(json.dumps(environment, indent=2))
        return {}
    if path.read_text() != text:
        raise InputError(
            f"output {output} holds a run with other settings, see its config.json; give another"
        )
    curves = output / CURVES
    lines = curves.read_text().splitlines() if curves.exists() else []
    done = {}
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # what cannot be read is trained again
            row = json.loads(line)
            done[row["method"]] = row["evaluations"]
    return done


def save(output: Path, done: dict[str, Any]) -> None:
    """A line a method, all or nothing."""
    with replacing(output / CURVES) as partial, partial.open("w") as file:
        for method, evaluations in done.items():
            file.write(json.dumps(finite({"method": method, "evaluations": evaluations})) + "\n")
