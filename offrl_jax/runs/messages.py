"""Messages on standard error."""

import contextlib
import sys


def say(text: str) -> None:
    """Prints a line on standard error; does nothing if it is closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
