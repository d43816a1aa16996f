"""EDAC: SAC-N with a penalty for critics whose slopes in the data's actions agree, so that a
smaller ensemble penalises unseen actions.

Citation: An et al. 2021, arXiv:2110.01548.
Update order: `soft_actor_critic.update`.
Checked against: the authors' code (snu-mllab/EDAC at 198d570). Departures: parameters start as
everywhere here, not from biases of 0.1 and small last layers; a max backup asks the target critics,
where theirs asks the online ones.
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import soft_actor_critic
from offrl_jax.algorithms.common.critics import state_q_values
from offrl_jax.algorithms.common.soft_actor_critic import (
    SoftActorCriticConfig,
    SoftActorCriticState,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import ensemble_loss
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.types import Array, Bool, Float, Key, Metrics, Transition

SQUARED_NORM_FLOOR = 1e-12  # where every unit is dead the gradient has no direction


@config
class EDACConfig(SoftActorCriticConfig):
    diversity_weight: float = setting(
        1.0, "η of the critics' pairwise similarity; 0 is SAC-N", low=0
    )
    num_critics: int = setting(10, "E, critics whose minimum is used", low=2)
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256, 256), "critics' hidden layers", low=1)


def values_and_slopes(
    critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B A"]
) -> tuple[Float[Array, "E B"], Float[Array, "E B A"], list[Bool[Array, "E B H"]]]:
    """Q_k(s, a) and ∇_a Q_k(s, a) of every critic, and which of its hidden units are alive."""

    def of_member(critic: Any) -> tuple[Array, Array, list[Array]]:
        def q_of(action: Array) -> tuple[Array, list[Array]]:
            return _forward(critic, observation, action, jnp.ones(len(action)))

        q, backward, alive = jax.vjp(q_of, action, has_aux=True)
        return q, backward(jnp.ones_like(q))[0], alive

    return jax.vmap(of_member)(critic)


def _forward(
    critic: Any, observation: Array, action: Array, scale: Array, alive: list[Array] | None = None
) -> tuple[Array, list[Array]]:
    """Q (B,) of one critic and which hidden units are alive; given those, the linear map that the
    critic is while they are, its observation and biases times `scale` (B,)."""
    deeper = critic["params"]["MLP_0"]
    layers = [critic["params"], *(deeper[f"Dense_{i}"] for i in range(len(deeper) - 1))]
    state_kernel, action_kernel = jnp.split(critic["params"]["kernel"], [observation.shape[1]])
    x, found = scale[:, None] * (observation @ state_kernel) + action @ action_kernel, []
    for i, layer in enumerate(layers):
        x = (x @ layer["kernel"] if i else x) + scale[:, None] * layer["bias"][None]
        found.append(x > 0 if alive is None else alive[i])
        x = jnp.where(found[-1], x, 0.0)
    head = deeper["head"]
    return (x @ head["kernel"] + scale[:, None] * head["bias"][None])[:, 0], found


def diversity_loss(gradient: Float[Array, "E B A"]) -> Float[Array, ""]:
    """mean_b 1/(E − 1) Σ_{i≠j} ⟨g_i, g_j⟩,  g_i the gradients scaled to length 1.

    E for identical critics, 0 for orthogonal ones. The sum over pairs is |Σ_i g_i|² − Σ_i |g_i|².

    Source: An et al. 2021, arXiv:2110.01548, eq. 5.
    """
    squared_norm = jnp.sum(jnp.square(gradient), axis=-1, keepdims=True)
    unit = gradient * jax.lax.rsqrt(squared_norm + SQUARED_NORM_FLOOR)
    of_sum = jnp.sum(jnp.square(jnp.sum(unit, axis=0)), axis=-1)
    of_each = jnp.sum(jnp.square(unit), axis=(0, 2))
    return jnp.mean(of_sum - of_each) / (gradient.shape[0] - 1)


def critic_gradient(
    critic: Any,
    state: SoftActorCriticState,
    batch: Transition,
    target: Float[Array, "B"],
    policy: TanhGaussian,
    next_policy: TanhGaussian,
    key: Key,
    config: EDACConfig,
) -> tuple[Any, Metrics]:
    """Gradient and metrics of Σ_k mean_b (Q_k(s, a) − y)² + η `diversity_loss`, at the data's
    actions.

    With c = ∂/∂Q and v = ∂/∂∇_a Q of that, its gradient in the parameters is that of
    Σ_b c Q(s, a) + ⟨v, ∇_a Q(s, a)⟩. A ReLU network is linear while the same units are alive, so
    this sum is one pass over (c s, c a + v) with biases c b: instead of one backward pass for Q and
    two for its slope, one for the slope and one for both.

    Source: An et al. 2021, arXiv:2110.01548, algorithm 1.
    """
    del state, policy, next_policy, key
    q, slope, alive = values_and_slopes(critic, batch.observation, batch.action)
    td_loss, c = jax.value_and_grad(ensemble_loss)(q, target)
    diversity, v = jax.value_and_grad(diversity_loss)(slope)

    def linear(critic: Any, alive: list[Array], c: Array, v: Array) -> Array:
        action = c[:, None] * batch.action + v
        return jnp.sum(_forward(critic, batch.observation, action, c, alive)[0])

    gradient = jax.vmap(jax.grad(linear))(critic, alive, c, config.diversity_weight * v)
    return gradient, {
        "critic/loss": td_loss + config.diversity_weight * diversity,
        "critic/q": jnp.mean(q),
        "critic/similarity": diversity,
    }


def update(
    config: EDACConfig, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[SoftActorCriticState, Metrics]:
    return soft_actor_critic.update(config, state, batch, key, critic_gradient)


edac = Algorithm(
    name="edac",
    Config=EDACConfig,
    init=soft_actor_critic.init,
    update=update,
    act=soft_actor_critic.act,
    value=soft_actor_critic.value,
    citation="An et al. 2021, arXiv:2110.01548",
    q_values=state_q_values,
)
