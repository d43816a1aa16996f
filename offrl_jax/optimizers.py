"""The one optimiser step that every algorithm takes."""

from typing import Any

import optax

from offrl_jax.types import Scalar


def adam_step(learning_rate: Scalar, gradient: Any, params: Any, optimizer: Any) -> tuple[Any, Any]:
    """New parameters and optimiser state. The rate may be traced, so that it can be swept."""
    updates, optimizer = optax.adam(learning_rate).update(gradient, optimizer)
    return optax.apply_updates(params, updates), optimizer
