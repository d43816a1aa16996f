"""The algorithm that a user types: one of ours by name, or their own as MODULE:NAME."""

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import offrl_jax as orl

if TYPE_CHECKING:
    from offrl_jax.algorithms.base import Algorithm


def find_algorithm(text: str) -> "Algorithm":
    """The algorithm of that name, or what MODULE:NAME imports from the current folder or the path.

    Raises:
      InputError: if there is none, or the module cannot be imported.
    """
    if ":" not in text:
        return orl.ALGORITHMS[text]
    from offrl_jax.algorithms.base import Algorithm
    from offrl_jax.types import did_you_mean

    module_name, _, name = text.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise orl.InputError(
            f"algorithm={text} names no module; give MODULE:NAME, such as mine:mine for the "
            "algorithm mine in the file mine.py"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise orl.InputError(
                f"algorithm={text}: there is no module {error.name!r} in {os.getcwd()} or on "
                "Python's path; run the command in the folder of its file"
            ) from error
        raise orl.InputError(
            f"algorithm={text}: importing {module_name} raises {error!r}; correct that first"
        ) from error
    found = getattr(module, name, None)
    if isinstance(found, Algorithm):
        return found
    own = [key for key, value in vars(module).items() if isinstance(value, Algorithm)]
    what = (
        f"is a {type(found).__name__}, not an Algorithm"
        if hasattr(module, name)
        else "is not there"
    )
    raise orl.InputError(
        f"algorithm={text}: {name!r} {what}{did_you_mean(name, own)} ({module_name} has "
        f"{', '.join(own) or 'no Algorithm'})"
    )


def own_algorithm(text: str | None, run_dir: str | Path) -> "Algorithm | None":
    """The user's own algorithm, if they typed one and the run does not name another."""
    if text is None:
        return None
    own = find_algorithm(text)
    for name in ("config.json", "policy.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads((Path(run_dir) / name).read_text())["algorithm"] != own.name:
                return None
    return own
