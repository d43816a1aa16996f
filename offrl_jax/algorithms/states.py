"""States that do not fit: donated ones, and those of another algorithm, config or key."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.types import InputError


def check_alive(state: Any) -> None:
    """Raises InputError if the state was donated."""
    for leaf in jax.tree.leaves(state):
        is_array = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        if is_array and leaf.is_deleted():
            raise InputError(
                "the state was given to learn before, which takes its memory; use the state that "
                "learn returned"
            )


@contextlib.contextmanager
def misfit_explained(algorithm: Algorithm, state: Any, init: Callable[[], Any]) -> Iterator[None]:
    """Turns an error due to a state of another algorithm, config or key into a sentence.

    The check runs only after an error, since it costs a trace.

    Args:
      algorithm: The algorithm to train.
      state: The state that it was given.
      init: Makes a state that fits.

    Raises:
      InputError: in place of any other error, if the state does not fit.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        why = None
        with contextlib.suppress(Exception):  # of an algorithm that cannot start at all
            why = _misfit(state, jax.eval_shape(init))
        if why is not None:
            raise InputError(
                f"the state is not one of {algorithm.name} with this config and key: {why}; start "
                "from init with the same ones"
            ) from error
        raise


def _misfit(state: Any, wanted: Any) -> str | None:
    """The first difference between two states, or None if they are alike."""
    found, needed = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (state, wanted))
    )
    for name in dict.fromkeys((*needed, *found)):
        if name not in found or name not in needed:
            return f"it has {'no' if name in needed else 'a'} {name}"
    for name in needed:
        if jnp.shape(found[name]) != needed[name].shape:
            return (
                f"its {name} has shape {jnp.shape(found[name])} where {needed[name].shape} is "
                "needed"
            )
    return None
