"""ReLU critics: Q, ∇_a Q, and the parameters' gradient of a function of both.

A ReLU network is linear while its active units stay the same. This saves passes over automatic
differentiation.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.networks.modules import MLP
from offrl_jax.types import Array, Bool, Float


def is_piecewise_linear(network: nn.Module) -> bool:
    """Whether the network is an MLP of ReLU layers only. Subclasses may compute something else."""
    return type(network) is MLP and network.activation == "relu" and not network.layer_norm


def values_and_slopes(
    critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B A"]
) -> tuple[Float[Array, "E B"], Float[Array, "E B A"], list[Bool[Array, "E B _"]]]:
    """Q_k(s, a), ∇_a Q_k(s, a) and the active hidden units of every critic."""

    def of_member(params: Any) -> tuple[Array, Array, list[Array]]:
        def q_of(action: Array) -> tuple[Array, list[Array]]:
            return _forward(params, observation, action, jnp.ones(len(action)))

        q, backward, alive = jax.vjp(q_of, action, has_aux=True)
        return q, backward(jnp.ones_like(q))[0], alive

    return jax.vmap(of_member)(critic["members"])


def gradient_of_both(
    critic: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B A"],
    alive: list[Bool[Array, "E B _"]],
    *,
    of_value: Float[Array, "E B"],
    of_slope: Float[Array, "E B A"],
) -> Any:
    """The parameters' gradient of Σ_kb { c Q_k(s, a) + ⟨v, ∇_a Q_k(s, a)⟩ }, c = `of_value`,
    v = `of_slope`.

    With its active units fixed, a ReLU network is linear. The sum is then its output for inputs
    (c s, c a + v) and biases scaled by c, so one backward pass serves both terms. Automatic
    differentiation takes three: one for Q and two for ∇_a Q.

    Args:
      critic: Parameters of the ensemble.
      observation: s.
      action: a.
      alive: Active units, from `values_and_slopes`.
      of_value: c, the derivative in each Q_k(s, a).
      of_slope: v, the derivative in each ∇_a Q_k(s, a).
    """

    def linear(params: Any, alive: list[Array], c: Array, v: Array) -> Array:
        return jnp.sum(_forward(params, observation, c[:, None] * action + v, c, alive)[0])

    members = jax.vmap(jax.grad(linear))(critic["members"], alive, of_value, of_slope)
    return {"members": members}


def _forward(
    params: Any, observation: Array, action: Array, scale: Array, alive: list[Array] | None = None
) -> tuple[Array, list[Array]]:
    """Q (B,) and the active hidden units of one critic. With `alive` given, these units are active
    instead. `scale` (B,) multiplies observations and biases."""
    layers = [params["network"][f"Dense_{i}"] for i in range(len(params["network"]))]
    state_kernel, action_kernel = jnp.split(layers[0]["kernel"], [observation.shape[1]])
    x, found = scale[:, None] * (observation @ state_kernel) + action @ action_kernel, []
    for i, layer in enumerate(layers):
        x = (x @ layer["kernel"] if i else x) + scale[:, None] * layer["bias"][None]
        found.append(x > 0 if alive is None else alive[i])
        x = jnp.where(found[-1], x, 0.0)
    head = params["head"]
    return (x @ head["kernel"] + scale[:, None] * head["bias"][None])[:, 0], found
