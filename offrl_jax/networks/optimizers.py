"""Optimiser steps. Learning rates may be traced, so they can be swept in one program."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.types import Array, Float, Int, Scalar

OPTIMIZERS = {"adam": optax.adam, "sgd": partial(optax.sgd, momentum=0.9)}


class Trainable(NamedTuple):
    """Parameters and the state of their optimiser."""

    params: Any
    opt_state: Any

    @classmethod
    def create(cls, params: Any, optimizer: str = "adam") -> "Trainable":
        """Parameters with a new state of one of `OPTIMIZERS`. The state holds no learning rate."""
        return cls(params, OPTIMIZERS[optimizer](0.0).init(params))

    def step(self, gradient: Any, learning_rate: Scalar, optimizer: str = "adam") -> "Trainable":
        """Parameters and state after one step along this gradient."""
        updates, opt_state = OPTIMIZERS[optimizer](learning_rate).update(gradient, self.opt_state)
        return Trainable(optax.apply_updates(self.params, updates), opt_state)

    def minimize(
        self, loss: Callable[[Any], tuple], learning_rate: Scalar, optimizer: str = "adam"
    ) -> tuple["Trainable", Any]:
        """One gradient step on `loss(params) -> (loss, auxiliary)`. Returns the auxiliary too."""
        gradient, auxiliary = jax.grad(loss, has_aux=True)(self.params)
        return self.step(gradient, learning_rate, optimizer), auxiliary


def cosine_rate(
    learning_rate: Scalar, step: Int[Array, ""], num_steps: int
) -> Scalar | Float[Array, ""]:
    """learning_rate · ½ (1 + cos(π min(step / num_steps, 1))); constant if num_steps = 0."""
    if num_steps == 0:
        return learning_rate
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1.0)))
