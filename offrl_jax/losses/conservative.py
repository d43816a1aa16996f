"""Penalties that push Q down where the data is silent."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float


def importance_weighted_logsumexp(
    q: Float[Array, "*E B N"], log_density: Float[Array, "B N"]
) -> Float[Array, "*E B"]:
    """log Σ_j exp( Q(s, a_j) − log μ_j(a_j) ) over N actions, a_j drawn from density μ_j.

    Exceeds the estimate of log ∫ exp Q(s, a) da by log N, a constant that has no gradient in Q.

    Source: Kumar et al. 2020, arXiv:2006.04779, appendix F; the constant as in the authors' code.
    """
    log_density = log_density.reshape((1,) * (q.ndim - 2) + log_density.shape)
    return jax.nn.logsumexp(q - log_density, axis=-1)


def uniform_log_density(action_size: int) -> Float[Array, ""]:
    """log of the uniform density on [−1, 1]^A, which is A log ½."""
    return action_size * jnp.log(0.5)
