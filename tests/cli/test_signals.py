"""Signals reach real processes, since a handler of this one would be pytest's."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from offrl_jax.cli.signals import stopping
from tests.few import few

ROOT = Path(__file__).parents[2]
BEGIN = "import sys, time\nfrom offrl_jax.cli.signals import stopping\n"


def start(code, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    """Exit code and what was printed; a process that does not end fails the test."""
    try:
        stdout, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


WAITING = """
with stopping() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
print("saved")
"""


BOTH = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks_to_stop(number):
    process = start(WAITING)
    process.send_signal(number)
    code, stdout, stderr = finish(process)
    assert (code, stdout) == (0, "saved\n")
    assert f"{number.name}: stopping" in stderr and "Traceback" not in stderr


def test_the_first_signal_asks_to_stop_though_nobody_reads_what_it_says():
    """As where Ctrl-C ends `tee` as well."""
    reader, writer = os.pipe()
    process = start(WAITING, stderr=writer)
    os.close(writer)
    os.close(reader)
    process.send_signal(signal.SIGINT)
    code, stdout, _ = finish(process)
    assert (code, stdout) == (0, "saved\n")


BUSY = """
import hashlib
with stopping() as stop:
    print("ready", flush=True)
    {busy}
print("never")
"""
COMPILED = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"  # a single call, without the GIL


@pytest.mark.parametrize("number", few({n.name: n for n in BOTH}, ["SIGINT"]))
@pytest.mark.parametrize(
    "busy",
    few(
        {"compiled code": COMPILED, "sleep": "time.sleep(60)", "Python": "while True: pass"},
        ["compiled code", "Python"],
    ),
)
def test_the_second_signal_leaves_at_once_whatever_goes_on(busy, number):
    process = start(BUSY.format(busy=busy))
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n"
    assert "SIGTERM: stopping" in process.stderr.readline()
    assert process.poll() is None
    clock = time.monotonic()
    process.send_signal(number)
    code, stdout, _ = finish(process)
    assert time.monotonic() - clock < 10
    assert (code, stdout) == (128 + number, "")


def test_other_signals_mean_nothing_to_it():
    code = WAITING.replace("with", "import signal; signal.signal(signal.SIGUSR1, print)\nwith", 1)
    process = start(code)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_after_the_block_all_is_as_before():
    before, threads = handlers(), threading.active_count()
    with stopping() as stop:
        assert handlers() != before and not stop()
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_after_an_error_all_is_as_before():
    before = handlers()
    with pytest.raises(ZeroDivisionError), stopping():
        raise ZeroDivisionError
    assert handlers() == before


def test_a_handler_of_compiled_code_stays(monkeypatch):
    """Of which Python tells only that it is none of its own."""
    given = []

    def set_handler(number, handler):
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable")
        given.append((number, handler))

    monkeypatch.setattr(signal, "signal", set_handler)
    with stopping() as stop:
        assert not stop()
    assert [number for number, _ in given] == [signal.SIGTERM, signal.SIGINT]


def test_in_another_thread_it_never_asks_and_changes_nothing():
    before, seen = handlers(), []

    def work():
        with stopping() as stop:
            seen.append((stop(), handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
