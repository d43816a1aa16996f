"""Weighted and asymmetric regression: weights of advantages, values by expectiles and exponentials,
TD(λ) returns."""

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Scalar


def weighted_likelihood_loss(
    weight: Float[Array, "B"], log_prob: Float[Array, "B"]
) -> Float[Array, ""]:
    """−mean_b sg(w_b) log π(a_b|s_b), whose optimum in a table is π ∝ β · E[w|s, a].

    Source: Peng et al. 2019 (AWR), arXiv:1910.00177, eq. 9; Nair et al. 2020 (AWAC),
    arXiv:2006.09359, eq. 13; Wang et al. 2020 (CRR), arXiv:2006.15134, eq. 2.
    """
    return -jnp.mean(jax.lax.stop_gradient(weight) * log_prob)


def exponential_weight(
    scaled_advantage: Float[Array, "*B"], max_weight: Scalar
) -> Float[Array, "*B"]:
    """min( e^z, w_max ) with z = A / λ: the constraint KL(π‖β) ≤ ε in closed form, π ∝ β e^{A/λ}.

    Source: Peng et al. 2019 (AWR), arXiv:1910.00177, section 5.2.
    """
    return jnp.exp(jnp.minimum(scaled_advantage, jnp.log(max_weight)))


def softmax_weight(scaled_advantage: Float[Array, "B"]) -> Float[Array, "B"]:
    """B · softmax_b(z) = e^z / mean_b e^z: weights of mean 1 whatever the advantages' offset.

    Source: Nair et al. 2020 (AWAC), arXiv:2006.09359, in the authors' code; without the factor B
    gradients shrink with the batch.
    """
    return scaled_advantage.shape[0] * jax.nn.softmax(scaled_advantage)


def binary_weight(advantage: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """1[A > 0].

    Source: Wang et al. 2020 (CRR), arXiv:2006.15134, eq. 3.
    """
    return (advantage > 0).astype(advantage.dtype)


def standardized(
    advantage: Float[Array, "*B"], mean: Float[Array, ""], std: Float[Array, ""]
) -> Float[Array, "*B"]:
    """(A − mean) / (std + 1e-5), with the moments over the whole data.

    Source: Peng et al. 2019 (AWR), arXiv:1910.00177, in the authors' code.
    """
    return (advantage - mean) / (std + 1e-5)


def expectile_loss(difference: Float[Array, "B"], expectile: Scalar) -> Float[Array, ""]:
    """mean_b |τ − 1(u < 0)| u² of u = Q − V: V tends to the τ-expectile of Q over data actions.

    Source: Kostrikov et al. 2021 (IQL), arXiv:2110.06169, eq. 5.
    """
    weight = jnp.where(difference < 0, 1.0 - expectile, expectile)
    return jnp.mean(weight * jnp.square(difference))


def gumbel_loss(scaled_difference: Float[Array, "B"], clip: Scalar) -> Float[Array, ""]:
    """mean_b [ e^z − z − 1 ] · e^{−m} of z = min( (Q − V) / β, clip ), m = sg max_b z, at least −1:
    V tends to the soft maximum β log E e^{Q/β}, where nothing is clipped.

    Source: Garg et al. 2023 (XQL), arXiv:2301.02328, eq. 10, with the clip and the rescaling of the
    authors' code.
    """
    z = jnp.minimum(scaled_difference, clip)
    scale = jnp.exp(-_largest(z))
    return jnp.mean(jnp.exp(z - _largest(z)) - (z + 1.0) * scale)


def sparse_loss(
    q: Float[Array, "B"], value: Float[Array, "B"], temperature: Scalar
) -> Float[Array, ""]:
    """mean_b [ 1(t > 0) t² + V / α ] of t = 1 + (Q − V) / 2α: actions with Q < V − 2α do not count.

    Source: Xu et al. 2023 (SQL), arXiv:2303.15810, eq. 12.
    """
    t = 1.0 + (q - value) / (2.0 * temperature)
    return jnp.mean(jnp.square(jnp.maximum(t, 0.0)) + value / temperature)


def exponential_loss(
    q: Float[Array, "B"], value: Float[Array, "B"], temperature: Scalar, clip: Scalar
) -> Float[Array, ""]:
    """mean_b [ e^z + V / α ] · e^{−m} of z = min( (Q − V) / α, clip ), m = sg max_b z, at least −1:
    V tends to α log E e^{Q/α}, where nothing is clipped. A clipped sample pushes V down, not up.

    Source: Xu et al. 2023 (EQL), arXiv:2303.15810, eq. 15, with the clip and the rescaling of the
    authors' code.
    """
    z = jnp.minimum((q - value) / temperature, clip)
    scale = jnp.exp(-_largest(z))
    return jnp.mean(jnp.exp(z - _largest(z)) + value / temperature * scale)


def _largest(z: Float[Array, "B"]) -> Float[Array, ""]:
    return jax.lax.stop_gradient(jnp.maximum(jnp.max(z), -1.0))


def lambda_returns(
    reward: Float[Array, "N"],
    terminal: Float[Array, "N"],
    next_value: Float[Array, "N"],
    continues: Float[Array, "N"],
    discount: Scalar,
    trace_decay: Scalar,
) -> Float[Array, "N"]:
    """G_t = r_t + γ (1 − d_t) [ (1 − λ_t) V(s_{t+1}) + λ_t G_{t+1} ],  λ_t = λ within an episode, 0
    at its end: one step for λ = 0, Monte-Carlo for λ = 1, where cut episodes end in V.

    Args:
      reward: Rows in time order, episode after episode.
      terminal: d, 1 at true ends.
      next_value: V(s_{t+1}).
      continues: 1 where the next row continues the same episode; 0 at the last row.
      discount: γ.
      trace_decay: λ.

    Source: Sutton and Barto 2018, eq. 12.18; Peng et al. 2019 (AWR), arXiv:1910.00177, section 5.1.
    """
    trace = trace_decay * continues
    future = discount * (1.0 - terminal)
    steps = future * trace, reward + future * (1.0 - trace) * next_value

    def compose(later: tuple, earlier: tuple) -> tuple:
        return later[0] * earlier[0], earlier[1] + earlier[0] * later[1]

    return jax.lax.associative_scan(compose, steps, reverse=True)[1]
