"""SIGTERM and SIGINT: the first asks to save and stop, the second exits at once."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from offrl_jax.runs.messages import say

SIGNALS = signal.SIGTERM, signal.SIGINT


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Within the block signals do not interrupt; the yielded function says whether one has come.

    A thread reads them from a socket that the operating system's handler writes to, since Python's
    own handlers wait for compiled programs to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python leaves signals to the main thread
        return
    asked = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, lambda *_: None) for number in handled}
    earlier_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, asked), daemon=True).start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(earlier_writer)
        for number, handler in earlier.items():
            if handler is not None:  # else compiled code's, which Python cannot restore
                signal.signal(number, handler)
        writer.close()  # ends the thread


def _watch(reader: socket.socket, asked: threading.Event) -> None:
    with reader:
        while received := reader.recv(1):
            number = received[0]
            if number not in SIGNALS:
                continue
            if asked.is_set():
                os._exit(128 + number)
            asked.set()
            say(
                f"\n{signal.Signals(number).name}: stopping when this chunk of updates is done and "
                "saved; send it again to exit at once"
            )
