"""Optimiser steps. Rates may be traced, so that they can be swept."""

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
        """Fresh: the state of one of `OPTIMIZERS`, which holds no learning rate."""
        return cls(params, OPTIMIZERS[optimizer](0.0).init(params))

    def step(self, gradient: Any, learning_rate: Scalar, optimizer: str = "adam") -> "Trainable":
        """The next parameters and state."""
        updates, opt_state = OPTIMIZERS[optimizer](learning_rate).update(gradient, self.opt_state)
        return Trainable(optax.apply_updates(self.params, updates), opt_state)

    def minimize(
        self, loss: Callable[[Any], tuple], learning_rate: Scalar, optimizer: str = "adam"
    ) -> tuple["Trainable", Any]:
        """One `step` on `loss(params) -> (loss, auxiliary)`, and the auxiliary."""
        gradient, auxiliary = jax.grad(loss, has_aux=True)(self.params)
        return self.step(gradient, learning_rate, optimizer), auxiliary


def cosine_rate(
    learning_rate: Scalar, step: Int[Array, ""], num_steps: int
) -> Scalar | Float[Array, ""]:
    """½ (1 + cos(π min(step / num_steps, 1))) times the rate; the rate itself for num_steps = 0."""
    if num_steps == 0:
        return learning_rate
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1.0)))
