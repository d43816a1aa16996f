"""Maximum a posteriori policy optimisation: the soft choice among sampled actions and its dual."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Scalar


def improved_weights(q: Float[Array, "B N"], temperature: Scalar) -> Float[Array, "B N"]:
    """w_j ∝ e^{Q(s, a_j) / η} over the actions a_j ~ p of each state: p e^{Q/η}, normalised.

    Source: Abdolmaleki et al. 2018 (MPO), arXiv:1806.06920, eq. 5.
    """
    return jax.nn.softmax(q / temperature, axis=1)


def temperature_dual(
    q: Float[Array, "B N"], temperature: Scalar, epsilon: Scalar
) -> Float[Array, ""]:
    """g(η) = η ε + η mean_b log mean_j e^{Q(s, a_j) / η}, at whose minimum mean KL(q‖p) = ε.

    Source: Abdolmaleki et al. 2018 (MPO), arXiv:1806.06920, eq. 8.
    """
    log_mean = jax.nn.logsumexp(q / temperature, axis=1) - jnp.log(q.shape[1])
    return temperature * (epsilon + jnp.mean(log_mean))


def improvement_kl(weight: Float[Array, "B N"]) -> Float[Array, ""]:
    """mean_b KL(q‖p) = mean_b Σ_j w_j log(N w_j), at most log N."""
    log_ratio = jnp.log(weight.shape[1] * jnp.maximum(weight, 1e-30))
    return jnp.mean(jnp.sum(weight * log_ratio, axis=1))
