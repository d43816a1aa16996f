"""Loggers beside a run's own files. Whatever becomes of one, training goes on."""

import hashlib
import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offrl_jax.types import InputError

Log = Callable[[dict[str, float], int], None]


def tensorboard(run_dir: Path, first_step: int) -> tuple[Log, Callable[[], None]]:
    """Event files in the run's directory; where a killed run goes on from an earlier step, what was
    written of steps after its first row does not count any more: that row may be an evaluation,
    beside metrics of the same step that stay."""
    writer = importlib.import_module("tensorboardX").SummaryWriter(
        str(run_dir / "tensorboard"), purge_step=first_step + 1
    )

    def log(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def wandb(run_dir: Path, first_step: int) -> tuple[Log, Callable[[], None]]:
    """A run named as the directory, which goes on where the directory's does; WANDB_PROJECT and
    WANDB_MODE are the service's own. Steps that a killed run takes again are there twice: the
    service takes nothing back."""
    del first_step
    path = str(run_dir.absolute())
    run = importlib.import_module("wandb").init(
        dir=path,
        name=run_dir.name,
        id=hashlib.sha256(path.encode()).hexdigest()[:16],
        resume="allow",
    )
    run.define_metric("*", step_metric="step")  # its own steps must not go back: evaluations' may
    return lambda numbers, step: run.log(numbers | {"step": step}), run.finish


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}


class Loggers:
    """Passes rows on, a number for each seed. A logger that fails is warned of and left out."""

    def __init__(self, names: Sequence[str], run_dir: Path):
        """Raises InputError if there is no logger of that name."""
        if unknown := [name for name in names if name not in LOGGERS]:
            raise InputError(f"there is no logger {unknown[0]!r}; there are {', '.join(LOGGERS)}")
        self._names, self._run_dir = names, run_dir
        self._open: dict[str, tuple[Log, Callable[[], None]]] | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        """Logs a row of `metrics.jsonl` or `evaluations.jsonl`."""
        if self._open is None:  # not before the run is sure to take place
            self._open = {}
            for name in self._names:
                self._guarded(name, self._start, name, row["step"])
        numbers = {
            f"{name}/seed{i}": float(value)
            for name, values in row.items()
            if isinstance(values, list)
            for i, value in enumerate(values)
            if isinstance(value, int | float)
        }
        for name in list(self._open):
            self._guarded(name, self._open[name][0], numbers, row["step"])

    def close(self) -> None:
        for name, (_, close) in list((self._open or {}).items()):
            self._guarded(name, close)

    def _start(self, name: str, first_step: int) -> None:
        self._open[name] = LOGGERS[name](self._run_dir, first_step)

    def _guarded(self, name: str, do: Callable, *arguments: Any) -> None:
        try:
            do(*arguments)
        except Exception as error:  # of a package, a service, a network
            self._open.pop(name, None)
            logging.warning(
                "logger %s is left out (%s: %s); the run's own files have every row",
                name,
                type(error).__name__,
                error,
            )
