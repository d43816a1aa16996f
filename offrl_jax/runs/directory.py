"""A run's directory: its lock, settings, rows and outcome."""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any, TextIO

from offrl_jax.files import finite, write_json
from offrl_jax.runs.checkpoints import Damaged
from offrl_jax.runs.outcomes import AlreadyFinished
from offrl_jax.types import InputError

try:
    import fcntl
except ImportError:  # Windows, where two runs in one directory go unnoticed
    fcntl = None

LOCK = "run.lock"
CONFIG = "config.json"
DONE, FAILED = "DONE", "FAILED.json"
UNFINISHED = re.compile(r"\..+\.\d+")  # as files.replacing names them
REPRODUCIBLE = "versions", "devices", "num_threads", "platform", "commit"
FIXED = "algorithm", "num_seeds"  # the state's shape depends on them
MOST_SHOWN = 8  # differences named in one error
MOVABLE = ("dataset.name",)  # a file may be moved; its fingerprint says whether it is the same


class RunDirectory:
    """A directory that only this process writes to, until it is closed."""

    def __init__(
        self,
        run_dir: str | Path,
        settings: dict[str, Any],
        environment: dict[str, Any],
        allow_config_change: bool = False,
    ):
        """Makes the directory, or resumes the run in it.

        Args:
          run_dir: New, empty, or an earlier run's.
          settings: Everything that determines the run's results, of JSON's types; for
            `config.json`.
          environment: Versions, devices and the like; for `environment.json`.
          allow_config_change: Resume although the settings differ from the earlier run's.

        Raises:
          AlreadyFinished: if that run is done.
          InputError: if it cannot be used, is in use, or its settings differ.
        """
        self.path = check_run_dir(run_dir).absolute()
        settings = json.loads(json.dumps(finite(settings)))
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock = stack.enter_context(locked(self.path, "run_dir"))
                self._differences = self._compared(settings, allow_config_change)
                if not (self.path / CONFIG).exists():
                    write_json(self.path / CONFIG, settings)
            except OSError as error:
                raise InputError(
                    f"run_dir {self.path} cannot be written ({error}); give another"
                ) from error
            stack.pop_all()  # the lock stays
        self._settings, self._environment = settings, environment
        self.metrics = RowFile(self.path / "metrics.jsonl")
        self.evaluations = RowFile(self.path / "evaluations.jsonl")

    def marks(self) -> dict[str, list]:
        """How far the files of rows reach, for a checkpoint."""
        return {rows.path.name: rows.mark() for rows in (self.metrics, self.evaluations)}

    def check(self, marks: dict[str, list]) -> None:
        """Raises Damaged unless the files still begin with the rows that were marked."""
        for rows in (self.metrics, self.evaluations):
            rows.check(marks[rows.path.name])

    def cut(self, marks: dict[str, list], evaluated: int | None = None) -> None:
        """Removes the rows after the marks, except the evaluation of that step."""
        for rows, kept in ((self.metrics, None), (self.evaluations, evaluated)):
            rows.cut(marks.get(rows.path.name, [0, ""])[0], kept)

    def adopt(self) -> None:
        """Writes the settings to the directory and marks the run as unfinished."""
        for path in (*self.path.iterdir(), *(self.path / "policy").glob(".*")):
            is_over = path.name in (DONE, FAILED) or UNFINISHED.fullmatch(path.name)
            if is_over and path.is_file():
                path.unlink()
        if self._differences:
            write_json(self.path / CONFIG, self._settings)
        self._describe()

    def is_done(self) -> bool:
        return (self.path / DONE).exists()

    def end(self, failed: str | None, facts: dict[str, Any]) -> None:
        """Marks the run as done, or as failed with a reason."""
        facts = facts | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        if failed is None:
            write_json(self.path / DONE, facts)
        else:
            write_json(self.path / FAILED, {"reason": failed} | facts)

    def close(self) -> None:
        self._lock.close()

    def _compared(self, settings: dict[str, Any], allowed: bool) -> dict[str, list]:
        """Dotted names of what changed, with the earlier and the new value."""
        path = self.path / CONFIG
        if not path.exists():
            return {}
        try:
            earlier = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); give another run_dir to start a new run"
            ) from error
        differences = compared(earlier, settings)
        told = in_words(differences)
        if fixed := [name for name in FIXED if name in differences]:
            raise InputError(
                f"run_dir {self.path} holds a run with another {fixed[0]} ({told}), which cannot "
                "be changed in a run; give another run_dir"
            )
        if differences and not allowed:
            raise InputError(
                f"run_dir {self.path} holds a run with other settings ({told}); give another, or "
                "allow_config_change=True to resume with the new ones"
            )
        if differences:
            logging.warning("resuming %s with other settings: %s", self.path, told)
        elif self.is_done():
            raise AlreadyFinished(f"the run in {self.path} is finished; nothing is left to do")
        return differences

    def _describe(self) -> None:
        """Writes `environment.json`, or adds the differences of this session to it."""
        path = self.path / "environment.json"
        environment = json.loads(json.dumps(self._environment))
        try:
            first = dict(json.loads(path.read_text()))
            earlier = [*first.get("resumed", [])]
        except (OSError, ValueError, TypeError):  # killed before it was written, or damaged
            write_json(path, environment)
            return
        changed = {"changed": self._differences} if self._differences else {}
        first["resumed"] = [*earlier, environment | changed]
        write_json(path, first)
        if others := [what for what in REPRODUCIBLE if first.get(what) != environment.get(what)]:
            logging.warning(
                "%s changed since the run in %s began: its numbers are the same only to rounding",
                ", ".join(others),
                self.path,
            )


class RowFile:
    """A file of JSON lines. A checkpoint keeps a mark: the rows before it belong to it."""

    def __init__(self, path: Path):
        self.path = path
        self._content = hashlib.sha256()
        self._length = 0

    def append(self, row: dict[str, Any]) -> dict[str, Any]:
        """Adds a row and returns it as written, null where a number is not finite."""
        row = finite(row)
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(line)
        self._content.update(line)
        self._length += len(line)
        return row

    def mark(self) -> list:
        """Length in bytes and SHA-256 of all rows, which are on the disk when this returns."""
        if self._length:
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())
        return [self._length, self._content.hexdigest()]

    def check(self, mark: list) -> None:
        length, digest = mark
        if hashlib.sha256(self._read(length)).hexdigest() != digest:
            raise Damaged(f"rows of {self.path.name} that belong to it are missing or changed")

    def cut(self, length: int, step: int | None = None) -> None:
        """Keeps the first `length` bytes, and the next row if it is complete and of that step."""
        line, end, _ = self._read()[length:].partition(b"\n")
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            if end and step is not None and json.loads(line)["step"] == step:
                length += len(line + end)
        if length or self.path.exists():
            os.truncate(self.path, length)
        self._content = hashlib.sha256(self._read(length))
        self._length = length

    def count(self) -> int:
        """Rows in the file, whether they belong to a checkpoint or not."""
        return self._read().count(b"\n")

    def last(self) -> dict[str, Any] | None:
        """The newest row."""
        lines = self._read(self._length).splitlines()
        return json.loads(lines[-1]) if lines else None

    def _read(self, length: int = -1) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            return file.read(length)


def check_run_dir(run_dir: str | Path) -> Path:
    """The directory as a path.

    Raises:
      InputError: if it holds anything but a run, is a file, or cannot be written.
    """
    return usable(run_dir, "run_dir", "run", CONFIG)


def usable(directory: str | Path, flag: str, what: str, marker: str) -> Path:
    """The directory as a path.

    Args:
      directory: Its name.
      flag: The argument that gave it, such as "run_dir".
      what: What it is for, such as "run".
      marker: A file that every such directory in use has.

    Raises:
      InputError: if it holds anything else, is a file, or cannot be written.
    """
    path = Path(directory)
    try:
        path = path.expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:  # too long, no name, no such user
        raise InputError(
            f"{flag} {str(path)[:80]!r} is not a path ({error}); correct it"
        ) from error
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag} {path} is a file; give a directory")
    if path.is_dir() and not (path / marker).is_file():
        names = sorted(p.name for p in path.iterdir())
        if found := [n for n in names if n != LOCK and not UNFINISHED.fullmatch(n)]:
            raise InputError(
                f"{flag} {path} holds {found[0]} but no {what}; give another, so that nothing is "
                "overwritten"
            )
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(f"{flag} {path} cannot be made: {existing} is not writable; give another")
    return path


def locked(path: Path, flag: str, *, shared: bool = False) -> TextIO:
    """Locks the directory until the returned file is closed, for this process alone or together
    with others that share the lock.

    Raises:
      InputError: if another process holds the lock.
    """
    lock = (path / LOCK).open("a+")
    try:
        if fcntl is not None:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise InputError(
            f"{flag} {path} is in use by process {holder or 'unknown'}; wait until it ends or give "
            "another"
        ) from error
    except OSError as error:
        logging.warning(
            "the file system of %s has no locks (%s): two runs in it would go unnoticed",
            path,
            error,
        )
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def compared(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, list]:
    """Dotted names of the settings that differ, with the earlier and the new value."""
    earlier, now = _flat(earlier), _flat(now)
    return {
        name: [earlier.get(name), now.get(name)]
        for name in dict.fromkeys((*earlier, *now))
        if earlier.get(name) != now.get(name) and name not in MOVABLE
    }


def in_words(differences: dict[str, list]) -> str:
    """The differences that `compared` found, on one line. At most `MOST_SHOWN` are named."""
    words = [f"{k} was {_short(a)}, now {_short(b)}" for k, (a, b) in differences.items()]
    more = [f"and {len(words) - MOST_SHOWN} more"] if len(words) > MOST_SHOWN else []
    return ", ".join(words[:MOST_SHOWN] + more)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """A nested dictionary by dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    prefix = f"{name}." if name else ""
    return {k: v for key, child in value.items() for k, v in _flat(child, prefix + key).items()}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
