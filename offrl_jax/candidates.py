"""Acting by choosing among candidates: draw several actions a state, take the one that Q likes."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Key


def candidate_noise(
    key: Key | None, num_states: int, num_candidates: int, size: int
) -> Float[Array, "B_or_1 N W"]:
    """Standard normals (B, N, W); without a key the same ones for every state, (1, N, W), at every
    call, so that acting is a function of the state alone."""
    if key is None:
        return jax.random.normal(jax.random.key(0), (1, num_candidates, size))
    return jax.random.normal(key, (num_states, num_candidates, size))


def best_candidate(action: Float[Array, "B N A"], q: Float[Array, "B N"]) -> Float[Array, "B A"]:
    """argmax_j Q(s, a_j) over the N candidates of each state."""
    index = jnp.argmax(q, axis=1)[:, None, None]
    return jnp.take_along_axis(action, index, axis=1)[:, 0]
