"""The optimiser steps that algorithms take. Rates may be traced, so that they can be swept."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

from offrl_jax.types import Array, Float, Int, Scalar

OPTIMIZERS = {"adam": optax.adam, "sgd": partial(optax.sgd, momentum=0.9)}


def adam_step(learning_rate: Scalar, gradient: Any, params: Any, optimizer: Any) -> tuple[Any, Any]:
    """New parameters and optimiser state."""
    return optimizer_step("adam", learning_rate, gradient, params, optimizer)


def optimizer_step(
    name: str, learning_rate: Scalar, gradient: Any, params: Any, optimizer: Any
) -> tuple[Any, Any]:
    """`adam_step` for any of `OPTIMIZERS`."""
    updates, optimizer = OPTIMIZERS[name](learning_rate).update(gradient, optimizer)
    return optax.apply_updates(params, updates), optimizer


def cosine_rate(
    learning_rate: Scalar, step: Int[Array, ""], num_steps: int
) -> Scalar | Float[Array, ""]:
    """½ (1 + cos(π min(step / num_steps, 1))) times the rate; the rate itself for num_steps = 0."""
    if num_steps == 0:
        return learning_rate
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1.0)))
