"""What a user types: an algorithm by name, and their own algorithms and networks as MODULE:NAME."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import offrl_jax as orl

if TYPE_CHECKING:
    from offrl_jax.algorithms.base import Algorithm


def _imported(text: str, what: str, kind: str, is_one: Callable[[Any], bool]) -> Any:
    """What MODULE:NAME names, imported from the current folder or the path.

    Args:
      text: MODULE:NAME.
      what: The argument that holds it, for errors.
      kind: What it should be, such as "an Algorithm".
      is_one: Whether an object is.

    Raises:
      InputError: if the module cannot be imported, has no such name, or it is of another kind.
    """
    from offrl_jax.types import did_you_mean

    module_name, _, name = text.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise orl.InputError(
            f"{what}={text} names no module; give MODULE:NAME, such as mine:mine for the name mine "
            "in the file mine.py"
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
                f"{what}={text}: there is no module {error.name!r} in {os.getcwd()} or on Python's "
                "path; run the command in the folder of its file"
            ) from error
        raise orl.InputError(
            f"{what}={text}: importing {module_name} raises {error!r}; correct that first"
        ) from error
    found = getattr(module, name, None)
    if is_one(found):
        return found
    own = [key for key, value in vars(module).items() if is_one(value)]
    problem = (
        f"is a {type(found).__name__}, not {kind}" if hasattr(module, name) else "is not there"
    )
    raise orl.InputError(
        f"{what}={text}: {name!r} {problem}{did_you_mean(name, own)} ({module_name} has "
        f"{', '.join(own) or f'not {kind}'})"
    )


def find_algorithm(text: str) -> "Algorithm":
    """The algorithm of that name, or what MODULE:NAME imports.

    Raises:
      InputError: if there is none, or the module cannot be imported.
    """
    if ":" not in text:
        return orl.ALGORITHMS[text]
    from offrl_jax.algorithms.base import Algorithm

    return _imported(text, "algorithm", "an Algorithm", lambda x: isinstance(x, Algorithm))


def find_networks(texts: Sequence[str]) -> dict[str, type]:
    """The network classes that MODULE:CLASS name, by their names.

    Raises:
      InputError: if a module cannot be imported or has no such class.
    """
    from flax import linen as nn

    def is_network(found: Any) -> bool:
        return isinstance(found, type) and issubclass(found, nn.Module)

    found = [_imported(text, "networks", "a network class", is_network) for text in texts]
    return {network.__name__: network for network in found}


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
