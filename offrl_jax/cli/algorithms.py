"""Finds algorithms by name, and users' own algorithms and networks by MODULE:NAME."""

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
    """Imports MODULE:NAME from the current folder or Python's path.

    Args:
      text: MODULE:NAME.
      what: The argument, for error messages.
      kind: The expected kind, such as "an Algorithm".
      is_one: Whether an object is of that kind.

    Raises:
      InputError: if the module cannot be imported, has no such name, or the object is of another
        kind.
    """
    from offrl_jax.types import did_you_mean

    module_name, _, name = text.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise orl.InputError(
            f"{what}={text} does not name a module; give MODULE:NAME, such as mine:mine for mine "
            "in mine.py"
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
            f"{what}={text}: importing {module_name} raises {error!r}; fix that first"
        ) from error
    found = getattr(module, name, None)
    if is_one(found):
        return found
    own = [key for key, value in vars(module).items() if is_one(value)]
    problem = (
        f"is a {type(found).__name__}, not {kind}" if hasattr(module, name) else "does not exist"
    )
    raise orl.InputError(
        f"{what}={text}: {name!r} {problem}{did_you_mean(name, own)} ({module_name} has "
        f"{', '.join(own) or f'not {kind}'})"
    )


def find_algorithm(text: str) -> "Algorithm":
    """The algorithm of that name, or the one at MODULE:NAME.

    Raises:
      InputError: if it does not exist, or the module cannot be imported.
    """
    if ":" not in text:
        return orl.ALGORITHMS[text]
    from offrl_jax.algorithms.base import Algorithm

    return _imported(text, "algorithm", "an Algorithm", lambda x: isinstance(x, Algorithm))


def find_networks(texts: Sequence[str]) -> dict[str, type]:
    """Imports network classes given as MODULE:CLASS. Returns them by class name.

    Raises:
      InputError: if a module cannot be imported or has no such class.
    """
    from offrl_jax.networks.values import is_network_class

    found = [_imported(text, "networks", "a network class", is_network_class) for text in texts]
    names = [network.__name__ for network in found]
    if twice := [name for name in names if len({x for x in found if x.__name__ == name}) > 1]:
        raise orl.InputError(
            f"networks={','.join(texts)}: there are two classes named {twice[0]}, and files store "
            "only the name; rename one"
        )
    return dict(zip(names, found, strict=True))


def own_algorithm(text: str | None, run_dir: str | Path) -> "Algorithm | None":
    """The user's own algorithm, if given and the run does not name another one."""
    if text is None:
        return None
    own = find_algorithm(text)
    for name in ("config.json", "policy.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads((Path(run_dir) / name).read_text())["algorithm"] != own.name:
                return None
    return own
