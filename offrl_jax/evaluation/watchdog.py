"""Work that may hang or crash, watched from outside."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1
GRACE_SECONDS = 2.0


class Failed(Exception):
    """The work raised, or showed no sign of life for too long."""


class Halted(Exception):
    """The work stopped on request."""


def watched(
    work: Callable[[Callable[[], None]], T],
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
) -> T:
    """Returns `work(tick)`, run in a thread of its own.

    A thread that hangs cannot be ended and is abandoned: do not use what it works on again.

    Args:
      work: Calls `tick` as a sign of life, and does not catch what `tick` raises.
      seconds: The longest time between two such signs.
      stop: Asked several times a second.

    Raises:
      Failed: if it raised, or gave no sign of life for too long.
      Halted: if `stop` returned true.
    """
    alive_at = time.monotonic()
    is_over = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def tick() -> None:
        nonlocal alive_at
        if is_over.is_set():
            raise Halted
        alive_at = time.monotonic()

    def run() -> None:
        try:
            results.append(work(tick))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if thread.is_alive() and stop():
                is_over.set()
                thread.join(GRACE_SECONDS)
                raise Halted
            if thread.is_alive() and time.monotonic() - alive_at > seconds:
                raise Failed(f"no environment step ended within {seconds:g} s")
    finally:
        is_over.set()  # whatever ends the wait, an interrupt too, ends the work
    if errors:
        raise Failed(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]
    return results[0]
