"""Commands that compare methods one after another, and go on where they were stopped."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from offrl_jax.files import finite, replacing, write_json
from offrl_jax.runs.directory import CONFIG, usable
from offrl_jax.runs.provenance import describe_environment
from offrl_jax.types import InputError

CURVES = "curves.jsonl"


def finished(output: Path, settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What a stopped run with the same settings left in the folder, by method; makes the folder,
    with `config.json` and `environment.json` (which holds the facts too), if there is none.

    Raises:
      InputError: if the folder holds something else, or cannot be written.
    """
    usable(output, "output", "run", CONFIG)
    config, environment = output / CONFIG, output / "environment.json"
    try:
        if not config.exists():
            output.mkdir(parents=True, exist_ok=True)
            write_json(config, settings)
        elif config.read_text() != json.dumps(finite(settings), indent=2):
            raise InputError(
                f"output {output} holds a run with other settings, see its {CONFIG}; give another"
            )
        if not environment.exists():
            write_json(environment, describe_environment(sys.argv) | facts)
    except OSError as error:
        raise InputError(f"output {output} cannot be written ({error}); give another") from error
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
