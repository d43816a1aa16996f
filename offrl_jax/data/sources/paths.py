"""Names that are paths."""

import difflib
from pathlib import Path

from offrl_jax.types import InputError


def existing(name: str) -> Path:
    """The file of that name.

    Raises:
      InputError: if there is none, with the nearest name beside it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    siblings = [p.name for p in path.parent.glob(f"*{path.suffix}")]
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "correct the path"
    raise InputError(f"there is no file {name}; {hint}")
