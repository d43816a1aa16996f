"""A sweep's directory: its settings, the finished runs, and the unfinished jobs."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from offrl_jax.files import finite, write_json
from offrl_jax.runs.directory import compared, in_words, locked, usable
from offrl_jax.types import InputError

SWEEP = "sweep.json"


def check_sweep_dir(sweep_dir: str | Path) -> Path:
    """The directory as a path.

    Raises:
      InputError: if it holds anything but a sweep, is a file, or cannot be written.
    """
    return usable(sweep_dir, "sweep_dir", "sweep", SWEEP)


class SweepDirectory:
    """A directory that only this process, or processes that train one job each, write to until it
    is closed.

    `runs/NAME/` is the run of a setting on a dataset and appears when it is done. The settings of
    the I-th job train together in `jobs/I/`, which is removed when their runs are there.
    """

    def __init__(self, sweep_dir: str | Path, settings: dict[str, Any], *, shared: bool = False):
        """Makes the directory, or resumes the sweep in it.

        Args:
          sweep_dir: New, empty, or that of the same sweep.
          settings: Everything that determines the sweep's results, of JSON's types; for
            `sweep.json`.
          shared: Whether to share the directory with other processes that share it.

        Raises:
          InputError: if it cannot be used, is in use, or is another sweep's.
        """
        self.path = check_sweep_dir(sweep_dir).absolute()
        settings = json.loads(json.dumps(finite(settings)))
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock = stack.enter_context(locked(self.path, "sweep_dir", shared=shared))
                path = self.path / SWEEP
                if not path.exists():
                    write_json(path, settings)
                self._check(path, settings)
            except OSError as error:
                raise InputError(
                    f"sweep_dir {self.path} cannot be written ({error}); give another"
                ) from error
            stack.pop_all()  # the lock stays

    def run_dir(self, name: str) -> Path:
        return self.path / "runs" / name

    def is_done(self, name: str) -> bool:
        return self.run_dir(name).exists()  # it appears whole

    def job_dir(self, index: int) -> Path:
        return self.path / "jobs" / str(index)

    def forget_job(self, index: int) -> None:
        """Removes the files of a job whose runs are done, mainly its checkpoints."""
        shutil.rmtree(self.job_dir(index), ignore_errors=True)
        with contextlib.suppress(OSError):  # there are other jobs, or none has begun
            self.job_dir(index).parent.rmdir()

    def close(self) -> None:
        self._lock.close()

    def _check(self, path: Path, settings: dict[str, Any]) -> None:
        try:
            earlier = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); give another sweep_dir to start a new sweep"
            ) from error
        if differences := compared(earlier, settings):
            raise InputError(
                f"sweep_dir {self.path} holds another sweep ({in_words(differences)}); give "
                "another, or resume with the settings that it began with"
            )
