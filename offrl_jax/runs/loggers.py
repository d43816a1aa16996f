"""Loggers beside a run's own files. Training continues if one fails."""

import hashlib
import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offrl_jax.types import InputError

Log = Callable[[dict[str, float], int], None]


def tensorboard(run_dir: Path, first_step: int) -> tuple[Log, Callable[[], None]]:
    """Event files in the run's directory. When a killed run resumes from an earlier step, events
    after the step of its first row are replaced. Those of that step stay: the row may be an
    evaluation, whose metrics were written before."""
    writer = importlib.import_module("tensorboardX").SummaryWriter(
        str(run_dir / "tensorboard"), purge_step=first_step + 1
    )

    def log(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def wandb(run_dir: Path, first_step: int) -> tuple[Log, Callable[[], None]]:
    """A run named after the directory, which resumes with it; WANDB_PROJECT and WANDB_MODE are the
    service's own variables. Steps that a killed run repeats appear twice, since the service removes
    nothing."""
    del first_step
    path = str(run_dir.absolute())
    run = importlib.import_module("wandb").init(
        dir=path,
        name=run_dir.name,
        id=hashlib.sha256(path.encode()).hexdigest()[:16],
        resume="allow",
    )
    run.define_metric("*", step_metric="step")  # its own steps must not decrease: evaluations' may
    return lambda numbers, step: run.log(numbers | {"step": step}), run.finish


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}


class Loggers:
    """Passes rows on, one number per seed. A logger that fails is left out, with a warning."""

    def __init__(self, names: Sequence[str], run_dir: Path):
        """Raises InputError if there is no logger of that name."""
        if unknown := [name for name in names if name not in LOGGERS]:
            raise InputError(f"there is no logger {unknown[0]!r}; there are {', '.join(LOGGERS)}")
        self._names, self._run_dir = names, run_dir
        self._open: dict[str, tuple[Log, Callable[[], None]]] | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        """Logs a row of `metrics.jsonl` or `evaluations.jsonl`."""
        if self._open is None:  # not before the run has started
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
