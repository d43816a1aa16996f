"""Commands for launchers to run."""

import sys

STOPPABLE = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])

def save(*_):
    time.sleep(0.2)
    (folder / "saved").touch()
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
if (folder / "saved").exists():
    (folder / "went_on").touch()
    sys.exit(0)
(folder / "parent").write_text(str(os.getppid()))
(folder / "started").write_text(str(os.getpid()))
time.sleep(60)
"""


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]
