"""DQN on fixed data: fitted Q-iteration over discrete actions, with nothing that holds it to the
data. With quantiles it is QR-DQN, with a period and rate 1 of the target its regressions are those
of fitted Q-iteration.

Citation: Mnih et al. 2015; Ernst et al. 2005 (fitted Q-iteration).
Update order: critic → target critic.
Checked against: d3rlpy's DoubleDQN (takuseno/d3rlpy at 0599a4f): Huber loss, double targets.
Departures: Adam, not RMSprop; the target follows every step by default.
"""

from typing import Any

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import discrete_q
from offrl_jax.algorithms.common.discrete_q import DiscreteQState, QuantileQConfig
from offrl_jax.config import config
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class DQNConfig(QuantileQConfig):
    pass


def critic_loss(
    config: DQNConfig, critic: Any, state: DiscreteQState, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """`discrete_q.td_loss` and nothing more."""
    loss, (metrics, _) = discrete_q.td_loss(config, critic, state, batch)
    return loss, metrics | {"critic/loss": loss}


def update(
    config: DQNConfig, state: DiscreteQState, batch: Transition, key: Key
) -> tuple[DiscreteQState, Metrics]:
    """Needs no randomness."""
    del key
    return discrete_q.update(config, state, batch, critic_loss)


dqn = Algorithm(
    name="dqn",
    Config=DQNConfig,
    init=discrete_q.init_quantiles,
    update=update,
    act=discrete_q.act,
    value=discrete_q.value,
    citation="Mnih et al. 2015",
    q_values=discrete_q.q_values,
    discrete=lambda config: True,
)
