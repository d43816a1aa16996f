"""Finds seeds that have diverged, and freezes them while the others continue."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.runs.trees import named_leaves
from offrl_jax.types import Array, Bool

# Squares of larger numbers overflow in float32, Adam's second moments among them.
LIMIT = float(np.sqrt(np.finfo(np.float32).max))


def find(metrics: dict[str, np.ndarray], state: Any, limit: float = LIMIT) -> list[str | None]:
    """For each of S seeds, what shows that it diverged, or None.

    Args:
      metrics: Metrics of the last updates, shape (S,) each.
      state: The resulting state, with leading axis S.
      limit: A metric of larger magnitude counts as diverged too.
    """
    found: list[str | None] = [None] * len(state.step)
    for name, finite in zip(_names(state), np.asarray(_is_finite(state)), strict=True):
        for i in np.flatnonzero(~finite):
            found[i] = f"{name} is not finite"
    for name, values in metrics.items():
        for i in np.flatnonzero(~np.isfinite(values) | (np.abs(values) > limit)):
            found[i] = f"{name} is {values[i]:.3g}"
    return found


def failure(diverged: Sequence[str | None], fail_on_any: bool) -> str | None:
    """Why a run counts as failed, or None: all of its seeds diverged, or any did and `fail_on_any`
    is set."""
    lost = [f"seed {i}: {why}" for i, why in enumerate(diverged) if why is not None]
    if lost and (fail_on_any or len(lost) == len(diverged)):
        return f"{len(lost)} of {len(diverged)} seeds diverged ({'; '.join(lost)})"
    return None


def _names(state: Any) -> list[str]:
    return [name for name, _ in named_leaves(state)]


@jax.jit
def _is_finite(state: Any) -> Bool[Array, "leaves S"]:
    leaves = jax.tree.leaves(state)
    return jnp.stack([jnp.isfinite(x).reshape(x.shape[0], -1).all(1) for x in leaves])


@partial(jax.jit, donate_argnames="new")
def freeze(is_lost: Bool[Array, "S"], new: Any, old: Any) -> Any:
    """The old states of lost seeds and the new ones of the others. `step` advances for all, since
    it determines the phase of training."""

    def choose(leaf: Array, old_leaf: Array) -> Array:
        if leaf is new.step:
            return leaf
        return jnp.where(is_lost.reshape(-1, *[1] * (leaf.ndim - 1)), old_leaf, leaf)

    return jax.tree.map(choose, new, old)
