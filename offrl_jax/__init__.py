"""Offline reinforcement learning in JAX: pure functions on pytrees, one program a study."""

from offrl_jax import data
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.config import grid, stack
from offrl_jax.learner import init, learn
from offrl_jax.runs.policy import load_policy
from offrl_jax.types import InputError, Spec, Transition

__all__ = [
    "ALGORITHMS",
    "InputError",
    "Spec",
    "Transition",
    "data",
    "grid",
    "init",
    "learn",
    "load_policy",
    "stack",
]
