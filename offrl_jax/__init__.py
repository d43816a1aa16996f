"""Offline reinforcement learning in JAX: pure functions on pytrees, one program for a whole study."""

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.config import grid, stack
from offrl_jax.learner import init, learn
from offrl_jax.types import InputError, Spec, Transition

__all__ = ["ALGORITHMS", "InputError", "Spec", "Transition", "grid", "init", "learn", "stack"]
