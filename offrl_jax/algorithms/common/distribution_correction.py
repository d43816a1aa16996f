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
import optax

from offrl_jax.losses.td import polyak
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import critic_values, init_critics
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

MIN_TEMPERATURE = 1e-6  # nothing keeps Δ positive, and below 0 the weights would be turned round


class ErrorState(NamedTuple):
    """Δ_k, the discounted sum of |Q_k − y| along the policy.

    Attributes:
      network: Parameters of Δ, stacked over E, one for each critic.
      target_network: Of Δ̄.
      optimizer: Of the network.
      temperature: T, a moving average of Δ_k over the data, (E,).
    """

    network: Any
    target_network: Any
    optimizer: Any
    temperature: Float[Array, "E"]


def init(config: Any, spec: Spec, key: Key) -> ErrorState:
    """Fresh networks, the target equal to the network."""
    network = init_critics(_hidden_sizes(config), config.num_critics, spec, key)
    return ErrorState(
        network=network,
        target_network=network,
        optimizer=optax.adam(config.critic_learning_rate).init(network),
        temperature=jnp.full(config.num_critics, config.initial_error_temperature, jnp.float32),
    )


def next_error(
    config: Any, state: ErrorState, batch: Transition, next_policy: TanhGaussian, key: Key
) -> Float[Array, "E B"]:
    """Δ̄_k(s′, a′), a′ ~ π(·|s′)."""
    action = next_policy.sample_and_log_prob(key)[0]
    return critic_values(
        _hidden_sizes(config), state.target_network, batch.next_observation, action
    )


def error_loss(
    network: Any, batch: Transition, target: Float[Array, "E B"], config: Any
) -> tuple[Float[Array, ""], Float[Array, "E B"]]:
    """Σ_k mean_b ( Δ_k(s, a) − sg[ |Q_k(s, a) − y| + γ (1 − d) Δ̄_k(s′, a′) ] )², and Δ_k(s, a).

    Source: Kumar et al. 2020, arXiv:2003.07305.
    """
    error = critic_values(_hidden_sizes(config), network, batch.observation, batch.action)
    return jnp.sum(jnp.mean(jnp.square(error - target), axis=1)), error


def step(
    config: Any,
    state: ErrorState,
    batch: Transition,
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
    gradient, error = jax.grad(error_loss, has_aux=True)(
        state.network, batch, jax.lax.stop_gradient(target), config
    )
    network, optimizer = adam_step(
        config.critic_learning_rate, gradient, state.network, state.optimizer
    )
    temperature = polyak(state.temperature, jnp.mean(error, axis=1), config.target_update_rate)
    state = ErrorState(
        network=network,
        target_network=polyak(state.target_network, network, config.target_update_rate),
        optimizer=optimizer,
        temperature=jnp.maximum(temperature, MIN_TEMPERATURE),
    )
    return state, {
        "critic/error": jnp.mean(error),
        "critic/error_temperature": jnp.mean(state.temperature),
    }


def _hidden_sizes(config: Any) -> tuple[int, ...]:
    """One layer deeper than the critics."""
    return (*config.critic_hidden_sizes, config.critic_hidden_sizes[-1])
