"""QT-Opt: Q-learning without an actor, whose actions the cross-entropy method finds in the critic.

Citation: Kalashnikov et al. 2018, arXiv:1806.10293.
Update order: critic → its average Q̄_1 → at times Q̄_2, a copy of the new Q̄_1.
Checked against: the authors' code as far as it is public, which is critic, loss and acting
(google-research/tensor2robot at 034f49c).
Departures: squared errors are the default, since cross-entropy asks for targets in [0, 1]; Adam
instead of momentum, which is --config.optimizer=sgd; Q̄_2 is copied from Q̄_1 now and then, so that
it lags by a number of steps that changes, not by always the same; acting asks the critic that
learns, the authors' its average; no exploration, for the data are fixed.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import critics, cross_entropy_method
from offrl_jax.config import config, setting
from offrl_jax.data.dataset import Data
from offrl_jax.losses.td import cross_entropy_loss, ensemble_loss, polyak, td_target
from offrl_jax.networks.heads import init_critics
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import OPTIMIZERS, Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, InputError, Int, Key, Metrics, Spec, Transition


@config
class QTOptConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    loss: str = setting(
        "mse",
        "mse: squared errors; cross_entropy: Q is a probability, of rewards whose returns are",
        choices=("mse", "cross_entropy"),
    )
    num_samples: int = setting(64, "actions of a round of the cross-entropy method", low=2)
    num_elites: int = setting(
        6, "best of them, to which the next round's Gaussian is fitted", low=2
    )
    num_rounds: int = setting(2, "rounds of the cross-entropy method", low=1)
    target_update_rate: float = setting(1e-4, "Polyak rate of Q̄_1", low=0, high=1)
    num_lag_steps: int = setting(6000, "steps between two copies of Q̄_1 to Q̄_2", low=1)
    optimizer: str = setting("adam", "adam, or sgd with momentum 0.9", choices=tuple(OPTIMIZERS))
    critic_learning_rate: float = setting(3e-4, "the critic's step size", low=0)
    critic_network: nn.Module = network_setting(MLP(), "critic's network")
    batch_size: int = setting(256, "transitions a step", low=1)


class QTOptState(NamedTuple):
    step: Int[Array, ""]
    critic: Trainable  # an ensemble of one, like the targets
    target_critic: Any  # Q̄_1
    lagged_target_critic: Any  # Q̄_2
    start: Float[Array, "A"]  # μ_0 of the cross-entropy method, the mean of its first Gaussian


def init(config: QTOptConfig, spec: Spec, key: Key) -> QTOptState:
    """Fresh parameters, the targets equal to the critic."""
    critic = init_critics(config.critic_network, 1, spec, key)
    return QTOptState(
        step=jnp.int32(0),
        critic=Trainable.create(critic, config.optimizer),
        target_critic=critic,
        lagged_target_critic=critic,
        start=jnp.zeros(spec.action_size),
    )


def check(config: QTOptConfig, dataset: Data) -> None:
    """Cross-entropy is a loss of targets in [0, 1]. r + γ (1 − d) Q is there for every Q in [0, 1]
    if and only if 0 ≤ r and r + γ (1 − d) ≤ 1.

    Raises:
      InputError: if that does not hold for every transition, or there are more elites than samples.
    """
    cross_entropy_method.check_numbers(config.num_samples, config.num_elites, config.num_rounds)
    if config.loss != "cross_entropy":
        return
    discount = np.max(config.discount).astype(np.float32)  # as targets are computed
    lowest, highest_reward, highest = np.inf, -np.inf, -np.inf
    for reward, terminal in dataset.parts("reward", "terminal"):
        lowest, highest_reward = min(lowest, reward.min()), max(highest_reward, reward.max())
        highest = max(highest, (reward + discount * (1 - terminal)).max())
    if lowest < 0 or highest > 1:
        raise InputError(
            f"loss=cross_entropy needs targets in [0, 1], but with rewards of {lowest:g} to "
            f"{highest_reward:g} they reach from {min(lowest, 0):g} to {highest:g}; take "
            "loss=mse, or scale the rewards to at most 1 at true ends and 1 − discount elsewhere"
        )


def head(
    config: QTOptConfig, critic: Any, observation: Float[Array, "B O"], action: Array
) -> Float[Array, "B *N"]:
    """What the network gives: Q, or its logit if the loss is cross-entropy."""
    return critics.q_values(config, critic, observation, action)[0]


def q_of(config: QTOptConfig, head: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Q, which rises with the head: both are greatest at the same action."""
    return jax.nn.sigmoid(head) if config.loss == "cross_entropy" else head


def best_action(
    config: QTOptConfig,
    critic: Any,
    observation: Float[Array, "B O"],
    *,
    start: Float[Array, "A"],
    key: Key | None,
) -> tuple[Float[Array, "B A"], Float[Array, "B"]]:
    """argmax_a Q(s, a) by the cross-entropy method from μ_0 = `start`, and the maximum."""
    action, found = cross_entropy_method.maximize(
        partial(head, config, critic, observation),
        jnp.broadcast_to(start, (observation.shape[0], *start.shape)),
        key,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
        num_rounds=config.num_rounds,
    )
    return action, q_of(config, found)


def next_state_value(
    config: QTOptConfig, state: QTOptState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """V̄(s′) = min( Q̄_1, Q̄_2 )(s′, a*),  a* = argmax_a Q̄_1(s′, a).

    Source: Kalashnikov et al. 2018, arXiv:1806.10293, section 4.
    """
    observation = batch.next_observation
    action, q_1 = best_action(config, state.target_critic, observation, start=state.start, key=key)
    lagged = head(config, state.lagged_target_critic, observation, action)
    return jnp.minimum(q_1, q_of(config, lagged))


def critic_loss(
    config: QTOptConfig, critic: Any, batch: Transition, target: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b ( Q(s, a) − y )², or mean_b −[ y log Q + (1 − y) log(1 − Q) ].

    Source: Kalashnikov et al. 2018, arXiv:1806.10293, eq. 1.
    """
    found = head(config, critic, batch.observation, batch.action)
    loss_of = cross_entropy_loss if config.loss == "cross_entropy" else ensemble_loss
    loss = loss_of(found[None], target)
    return loss, {"critic/loss": loss, "critic/q": jnp.mean(q_of(config, found))}


def update(
    config: QTOptConfig, state: QTOptState, batch: Transition, key: Key
) -> tuple[QTOptState, Metrics]:
    next_value = next_state_value(config, state, batch, key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    critic, metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target),
        config.critic_learning_rate,
        config.optimizer,
    )
    step = state.step + 1
    target_critic = polyak(state.target_critic, critic.params, config.target_update_rate)
    is_copied = step % config.num_lag_steps == 0
    lagged = jax.tree.map(
        lambda new, old: jnp.where(is_copied, new, old), target_critic, state.lagged_target_critic
    )
    return QTOptState(step, critic, target_critic, lagged, state.start), metrics


def act(
    config: QTOptConfig, state: QTOptState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """argmax_a Q(s, a); without a key always by the same samples."""
    return best_action(config, state.critic.params, observation, start=state.start, key=key)[0]


def value(
    config: QTOptConfig, state: QTOptState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """Q(s, a) of the action taken."""
    return best_action(config, state.critic.params, observation, start=state.start, key=None)[1]


def q_values(
    config: QTOptConfig,
    state: QTOptState,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "1 B *N"]:
    """Q(s, a)."""
    return q_of(config, head(config, state.critic.params, observation, action))[None]


qt_opt = Algorithm(
    name="qt_opt",
    Config=QTOptConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Kalashnikov et al. 2018, arXiv:1806.10293",
    q_values=q_values,
    check=check,
)
