"""Names that are paths."""

import difflib
from pathlib import Path

from offrl_jax.types import InputError


def existing(name: str, *, is_folder: bool = False) -> Path:
    """The file of that name, or the folder.

    Raises:
      InputError: if it does not exist, with the nearest name beside it.
    """
    kind = "folder" if is_folder else "regular file"
    try:
        path = Path(name).expanduser()
        if path.is_dir() if is_folder else path.is_file():
            return path
        if path.exists():
            raise InputError(f"{name} is no {kind}; give the path of one")
        folder = path.parent.iterdir() if path.parent.is_dir() else ()
        siblings = [p.name for p in folder if p.suffix == path.suffix and p.name != path.name]
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name[:80]!r} is no path ({error}); correct it") from error
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "correct the path"
    raise InputError(f"there is no {kind.split()[-1]} {name}; {hint}")
