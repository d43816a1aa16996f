"""Penalties that push Q down where the data is silent."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Scalar


def logsumexp(q: Float[Array, "*E B N"], temperature: Scalar = 1.0) -> Float[Array, "*E B"]:
    """T log Σ_j exp( Q(s, a_j) / T ) over N actions.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4, with the temperature of the authors' code.
    """
    return temperature * jax.nn.logsumexp(q / temperature, axis=-1)


def logmeanexp(q: Float[Array, "*E B N"], temperature: Scalar = 1.0) -> Float[Array, "*E B"]:
    """T log mean_j exp( Q(s, a_j) / T ), which estimates T log E_ρ exp(Q / T) for a_j ~ ρ.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 3 with R = −KL(μ‖ρ) (CQL(ρ)), appendix A.
    """
    return logsumexp(q, temperature) - temperature * jnp.log(q.shape[-1])


def importance_weighted_logsumexp(
    q: Float[Array, "*E B N"], log_density: Float[Array, "B N"], temperature: Scalar = 1.0
) -> Float[Array, "*E B"]:
    """T log Σ_j exp( [Q(s, a_j) − log μ_j(a_j)] / T ) over N actions, a_j drawn from density μ_j.

    At T = 1 it exceeds the estimate of log ∫ exp Q(s, a) da by log N, a constant that has no
    gradient in Q but shifts what a Lagrange threshold compares.

    Source: Kumar et al. 2020, arXiv:2006.04779, appendix F; the constant as in the authors' code.
    """
    log_density = log_density.reshape((1,) * (q.ndim - 2) + log_density.shape)
    return logsumexp(q - log_density, temperature)


def uniform_log_density(action_size: int) -> Float[Array, ""]:
    """log of the uniform density on [−1, 1]^A, which is A log ½."""
    return action_size * jnp.log(0.5)
