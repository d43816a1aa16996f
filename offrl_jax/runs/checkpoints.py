"""Checkpoints of train states: the only file that knows Orbax.

A checkpoint is a flat dictionary of arrays and a JSON description with a SHA-256 over both. A
checkpoint that does not match it is not restored, and nothing is ever unpickled.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from offrl_jax.runs.trees import named_leaves
from offrl_jax.types import InputError

FORMAT = 1
# Words in the errors of tensorstore, all ValueErrors, for trouble other than damage.
PASSING = "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE"


class Damaged(Exception):
    """What was stored is not what was saved."""


class Checkpoints:
    """States under a directory, one folder per step."""

    def __init__(
        self,
        directory: str | Path,
        keep_last: int = 2,
        keep_every: int | None = None,
        *,
        read_only: bool = False,
    ):
        """Args:
        directory: Made if absent; leftovers of an interrupted save in it are removed.
        keep_last: How many of the newest to keep; with one, nothing is left to fall back on.
        keep_every: Also keep checkpoints at steps divisible by this.
        read_only: Do not change the directory, which must exist: a run may be writing to it.
        """
        self.directory = Path(directory).resolve()
        self._damaged: list[int] = []
        if read_only:
            options = ocp.CheckpointManagerOptions(create=False)  # read_only warns of itself
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep_last, keep_period=keep_every, cleanup_tmp_directories=True
            )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, facts: dict[str, Any] | None = None) -> None:
        """Starts writing; the arrays may be donated as soon as this returns.

        Args:
          step: Not yet saved.
          state: A pytree of arrays.
          facts: Further facts about this state, of JSON's types.

        Raises:
          OSError: if this or an earlier one cannot be written.
        """
        arrays = {name: np.array(leaf) for name, leaf in named_leaves(state, ".")}
        description = {
            "format": FORMAT,
            "step": step,
            "arrays": _described(arrays),
            "sha256_of_arrays": _digest(arrays),
            "facts": facts or {},
        }
        description["sha256"] = _digest(description)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(arrays), description=ocp.args.JsonSave(description)
        )
        with self._writing():
            self._manager.wait_until_finished()
            if not self._manager.save(step, args=args):
                raise OSError(f"step {step} exists already")

    def restore(
        self, template: Any, accept: Callable[[dict[str, Any]], None] = lambda facts: None
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Step, state and facts of the newest whole checkpoint; None if none was ever saved.

        Newer damaged ones are reported as warnings; `forget_damaged` removes them.

        Args:
          template: A state of the same structure, or its shapes from `jax.eval_shape`.
          accept: Called with a checkpoint's facts; raises `Damaged` if they no longer hold.

        Raises:
          InputError: if the newest whole one is of another format, shape or dtype, or there are
            checkpoints but none of them is whole.
        """
        steps = self.steps()[::-1]
        for step in steps:
            try:
                state, facts = self.restore_step(step, template)
                accept(facts)
            except Damaged as error:
                reason = error
                logging.warning("checkpoint %s of %s is damaged (%s)", step, self.directory, error)
                continue
            self._damaged = steps[: steps.index(step)]
            if self._damaged:
                logging.warning("resuming from checkpoint %s", step)
            return step, state, facts
        if steps:
            raise InputError(
                f"none of the {len(steps)} checkpoints in {self.directory} can be resumed from "
                f"(the last: {reason}); give another run_dir to start a new run"
            )
        return None

    def steps(self) -> list[int]:
        """The saved steps in order, whether whole or damaged."""
        return sorted(self._manager.all_steps())

    def restore_step(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        """The state and facts saved at that step.

        Raises:
          Damaged: if they are not what was saved.
          InputError: as `restore`.
        """
        description = self._read(step, description=ocp.args.JsonRestore())
        if not isinstance(description, dict) or description.pop("sha256", None) != _digest(
            description
        ):
            raise Damaged("its description does not match its checksum")
        if description["step"] != step:
            raise Damaged(f"it is of step {description['step']}")
        if description["format"] != FORMAT:
            raise InputError(
                f"checkpoint {step} of {self.directory} has format {description['format']} where "
                f"this version reads {FORMAT}; resume with the version that wrote it"
            )
        wanted, saved = _described(dict(named_leaves(template, "."))), description["arrays"]
        for name in dict.fromkeys((*wanted, *saved)):
            if wanted.get(name) != saved.get(name):
                raise InputError(
                    f"checkpoint {step} of {self.directory} has {name} as {saved.get(name)} where "
                    f"these settings need {wanted.get(name)}; give another run_dir"
                )
        # The shapes that the store itself declares, checked before anything is allocated for them.
        handler, folder = ocp.PyTreeCheckpointHandler(), self.directory / str(step) / "state"
        declared = self._found(lambda: handler.metadata(folder))
        if (
            _described(getattr(declared, "tree", declared)) != saved
        ):  # a tree itself in Orbax 0.11.0
            raise Damaged("its arrays are not those of its description")
        restored = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in saved}
        arrays = self._read(step, state=ocp.args.PyTreeRestore(restored, restore_args=restored))
        if _described(arrays) != saved or _digest(arrays) != description["sha256_of_arrays"]:
            raise Damaged("its arrays do not match their checksum")
        leaves = [jnp.array(arrays[name]) for name in wanted]  # copies, which may be donated
        return jax.tree.unflatten(jax.tree.structure(template), leaves), description["facts"]

    def forget_damaged(self) -> None:
        """Removes what `restore` found damaged, so that these steps can be saved again."""
        for step in self._damaged:
            self._manager.delete(step)
        self._damaged = []

    def close(self) -> None:
        """Waits for the last write.

        Raises:
          OSError: if it failed.
        """
        with self._writing():
            self._manager.wait_until_finished()
        self.abandon()

    def abandon(self) -> None:
        """Releases the directory, even if the last write failed."""
        with contextlib.suppress(Exception):
            self._manager.close()

    def _read(self, step: int, **item: Any) -> Any:
        """One item of a checkpoint."""
        args = ocp.args.Composite(**item)
        (found,) = self._found(lambda: self._manager.restore(step, args=args).values())
        return found

    def _found(self, read: Callable[[], Any]) -> Any:
        """Reads with Orbax. Errors that come from damage become `Damaged`; others pass through."""
        try:
            return read()
        except Exception as error:
            is_misplaced = isinstance(
                error, FileNotFoundError | NotADirectoryError | IsADirectoryError
            )
            if isinstance(error, OSError | MemoryError) and not is_misplaced:
                raise
            if any(trouble in str(error) for trouble in PASSING):
                raise OSError(_short(error)) from error
            raise Damaged(_short(error)) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax reports a full disk as ValueError among others
            raise OSError(f"checkpoints/ cannot be written: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Start and end of an error: Orbax's may hold whole arrays, with the reason last."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) < 300 else f'{text[:100]} … {text[-160:]}'}"


def _described(arrays: dict[str, Any]) -> dict[str, list]:
    """Shape and dtype by name."""
    return {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of named arrays, or of values of JSON's types."""
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode())
        value = content[name]
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value))
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()
