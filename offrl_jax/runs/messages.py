"""Lines for whoever reads standard error."""

import contextlib
import sys


def say(text: str) -> None:
    """Prints a line there; that nobody reads it any more is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
