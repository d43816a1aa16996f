"""A sweep's directory: what was asked for, the runs that are done, and the jobs under way."""

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
      InputError: if it holds other things than a sweep, is a file, or cannot be written.
    """
    return usable(sweep_dir, "sweep_dir", "sweep", SWEEP)


class SweepDirectory:
    """A directory that this process alone writes to, or those that train a job each, until it is
    closed.

    `runs/NAME/` is the run of a setting on a dataset, there once it is done; `jobs/I/` is where
    the I-th job's settings are trained together, and is removed when their runs are there.
    """

    def __init__(self, sweep_dir: str | Path, settings: dict[str, Any], *, shared: bool = False):
        """Makes the directory, or goes on with what is in it.

        Args:
          sweep_dir: New, empty, or that of the same sweep.
          settings: All that decides the sweep's numbers, of JSON's types; for `sweep.json`.
          shared: Let others that share it in as well.

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
        """Removes what a job whose runs are done has left, its checkpoints above all."""
        shutil.rmtree(self.job_dir(index), ignore_errors=True)
        with contextlib.suppress(OSError):  # there are others, or none was ever begun
            self.job_dir(index).parent.rmdir()

    def close(self) -> None:
        self._lock.close()

    def _check(self, path: Path, settings: dict[str, Any]) -> None:
        try:
            earlier = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); give another sweep_dir to begin anew"
            ) from error
        if differences := compared(earlier, settings):
            raise InputError(
                f"sweep_dir {self.path} holds another sweep ({in_words(differences)}); give "
                "another, or the command that began it to go on"
            )
