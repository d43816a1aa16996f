"""DisCor: how wrong targets are is learnt beside the critics, and transitions with wrong ones count
less in the TD loss.

Source: Kumar et al. 2020, arXiv:2003.07305. Checked against: a public reimplementation
(toshikwa/discor.pytorch at 24fca75).
Departs from the paper: the error at s′ is of actions of the present policy, as there, not of the
one before; the temperature follows at the rate of the targets, as there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.losses.td import polyak
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import critic_values, init_critics
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

MIN_TEMPERATURE = 1e-6  # nothing keeps Δ positive, and below 0 the weights would be turned round


class ErrorState(NamedTuple):
    """Δ_k, the discounted sum of |Q_k − y| along the policy.

    Attributes:
      network: Δ_k, one for each critic, stacked over E.
      target_network: Parameters of Δ̄.
      temperature: T, a moving average of Δ_k over the data, (E,).
    """

    network: Trainable
    target_network: Any
    temperature: Float[Array, "E"]


def init(config: Any, spec: Spec, key: Key) -> ErrorState:
    """Fresh networks, the target equal to the network."""
    network = init_critics(config.error_network, config.num_critics, spec, key)
    return ErrorState(
        network=Trainable.create(network),
        target_network=network,
        temperature=jnp.full(config.num_critics, config.initial_error_temperature, jnp.float32),
    )


def next_error(
    config: Any, state: ErrorState, batch: Transition, next_policy: TanhGaussian, key: Key
) -> Float[Array, "E B"]:
    """Δ̄_k(s′, a′), a′ ~ π(·|s′)."""
    action = next_policy.sample_and_log_prob(key)[0]
    return critic_values(config.error_network, state.target_network, batch.next_observation, action)


def error_loss(
    config: Any, network: Any, batch: Transition, target: Float[Array, "E B"]
) -> tuple[Float[Array, ""], Float[Array, "E B"]]:
    """Σ_k mean_b ( Δ_k(s, a) − sg[ |Q_k(s, a) − y| + γ (1 − d) Δ̄_k(s′, a′) ] )², and Δ_k(s, a).

    Source: Kumar et al. 2020, arXiv:2003.07305.
    """
    error = critic_values(config.error_network, network, batch.observation, batch.action)
    return jnp.sum(jnp.mean(jnp.square(error - target), axis=1)), error


def step(
    config: Any,
    state: ErrorState,
    batch: Transition,
    *,
    td_error: Float[Array, "E B"],
    next_error: Float[Array, "E B"],
) -> tuple[ErrorState, Metrics]:
    """One step on `error_loss`; then the target and the temperature follow.

    Args:
      config: The algorithm's.
      state: Before the step.
      batch: (B, ...).
      td_error: |Q_k(s, a) − y|.
      next_error: Of `next_error`.
    """
    target = td_error + (config.discount * (1.0 - batch.terminal))[None] * next_error
    target = jax.lax.stop_gradient(target)
    network, error = state.network.minimize(
        lambda network: error_loss(config, network, batch, target), config.critic_learning_rate
    )
    rate = config.target_update_rate
    temperature = polyak(state.temperature, jnp.mean(error, axis=1), rate)
    temperature = jnp.maximum(temperature, MIN_TEMPERATURE)
    metrics = {
        "critic/error": jnp.mean(error),
        "critic/error_temperature": jnp.mean(temperature),
    }
    target_network = polyak(state.target_network, network.params, rate)
    return ErrorState(network, target_network, temperature), metrics
