"""Checkpoints of train states: the only file that knows Orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """Saves states under a directory, one folder a step, the newest `num_kept` kept."""

    def __init__(self, directory: str | Path, num_kept: int = 2):
        self._manager = ocp.CheckpointManager(
            Path(directory).resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=num_kept, create=True),
        )

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state`; the arrays may be donated as soon as this returns."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, template: Any) -> tuple[int, Any]:
        """The newest step and its state.

        Args:
          template: A state of the same structure, or its shapes from `jax.eval_shape`.

        Raises:
          FileNotFoundError: if there is no checkpoint.
        """
        step = self._manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self._manager.directory}")
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        return step, self._manager.restore(step, args=ocp.args.StandardRestore(shapes))

    def close(self) -> None:
        """Waits for the last write."""
        self._manager.wait_until_finished()
        self._manager.close()
