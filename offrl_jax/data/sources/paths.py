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
    try:
        if path.is_file():
            return path
        if path.exists():
            raise InputError(f"{name} is no regular file; give the path of one")
    except OSError as error:
        raise InputError(f"{name[:80]!r} is no path ({error.strerror}); correct it") from error
    siblings = [p.name for p in path.parent.glob(f"*{path.suffix}")]
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "correct the path"
    raise InputError(f"there is no file {name}; {hint}")
