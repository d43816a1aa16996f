"""Describes the policies that NumPy alone can evaluate, for readers without this package."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.runs.trees import named_leaves
from offrl_jax.types import Spec


def acts_by(
    algorithm: Algorithm, config: Any, state: Any, spec: Spec, weights: set[str]
) -> dict[str, Any] | None:
    """How to compute the mode of a policy that is one network with ReLU between its layers.

    Its action is tanh of the first A outputs or, for discrete actions, the index of the largest of
    A outputs. None for other policies, such as those that combine several networks. The names of
    weights suggest the layers; acting with random weights confirms them.

    Args:
      algorithm: The algorithm whose `act` it is.
      config: Its config.
      state: State of one seed; only its structure and shapes matter.
      spec: The dataset's spec.
      weights: Paths of the leaves that acting reads.

    Returns:
      For JSON: `layers`, prefixes of the weights `kernel` (inputs, outputs) and `bias` in their
      order, `activation` and `output`.
    """
    places = [
        path.removesuffix("/head/kernel") for path in weights if path.endswith("/head/kernel")
    ]
    if len(places) != 1:
        return None
    hidden = f"{places[0]}/network/Dense_"
    depth = sum(path.startswith(hidden) for path in weights) // 2
    layers = [*(f"{hidden}{i}" for i in range(depth)), f"{places[0]}/head"]
    if not {f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")} <= weights:
        return None
    random = np.random.default_rng(0)
    leaves = [  # others that acting reads, such as a standard deviation's, must make no difference
        (path, random.normal(size=x.shape) / np.sqrt(max(x.shape, default=1)))
        if path in weights
        else (path, np.zeros(x.shape))
        for path, x in named_leaves(state)
    ]
    arrays = [
        jnp.asarray(array, leaf.dtype)
        for (_, array), leaf in zip(leaves, jax.tree.leaves(state), strict=True)
    ]
    observation = random.normal(size=(16, spec.observation_size))
    with jax.default_matmul_precision("float32"):
        made = jax.tree.unflatten(jax.tree.structure(state), arrays)
        action = jax.jit(algorithm.act)(config, made, jnp.asarray(observation, jnp.float32), None)
    try:
        last = _forward(dict(leaves), layers, observation)
        if spec.discrete:
            output, expected = "argmax", last == last.max(-1, keepdims=True)
        else:
            output, expected = "tanh", np.tanh(last[:, : spec.action_size])
        agrees = np.allclose(action, expected, atol=1e-3)
    except ValueError:  # shapes that do not follow one another
        agrees = False
    if not agrees:
        return None
    return {"layers": layers, "activation": "relu", "output": output}


def _forward(weights: dict[str, np.ndarray], layers: list[str], x: np.ndarray) -> np.ndarray:
    for layer in layers:
        x = x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]
        x = x if layer == layers[-1] else np.maximum(x, 0.0)
    return x
