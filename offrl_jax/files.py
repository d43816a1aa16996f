"""Files that appear whole or not at all."""

import contextlib
import json
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there when the block ends well takes the place of `path`."""
    partial = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")  # of all hosts' own
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value of JSON's types, null for what is not finite."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(finite(value), indent=2, allow_nan=False))


def finite(value: Any) -> Any:
    """The value with null, which JSON knows, for NaN and infinity, which it does not."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
