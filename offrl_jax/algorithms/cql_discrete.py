"""CQL over discrete actions: DQN whose critic is pushed down at all actions and up at the data's.

Citation: Kumar et al. 2020, arXiv:2006.04779, section 6 (Atari), CQL(H).
Update order: critic → target critic.
Checked against: the authors' Atari code (aviralkumar2907/CQL at 25c9984): 200 quantiles, whose mean
is penalised, and a target that chooses its own maximum (`double` off).
Departures: as `dqn`; the authors' network is a convolutional one.
"""

from typing import Any

import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import discrete_q
from offrl_jax.algorithms.common.discrete_q import DiscreteQState, QuantileQConfig
from offrl_jax.config import config, setting
from offrl_jax.losses.conservative import logsumexp
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class CQLDiscreteConfig(QuantileQConfig):
    conservative_weight: float = setting(1.0, "w of the penalty", low=0)


def critic_loss(
    config: CQLDiscreteConfig, critic: Any, state: DiscreteQState, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """TD loss + w mean_b[ log Σ_a exp Q(s, a) − Q(s, a_data) ].

    With the Huber loss's ½ inside its threshold w is the paper's α.

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4.
    """
    td_loss, (metrics, q) = discrete_q.td_loss(config, critic, state, batch)
    gap = jnp.mean(logsumexp(q) - discrete_q.of_action(q, batch.action))
    loss = td_loss + config.conservative_weight * gap
    return loss, metrics | {"critic/loss": loss, "critic/gap": gap}


def update(
    config: CQLDiscreteConfig, state: DiscreteQState, batch: Transition, key: Key
) -> tuple[DiscreteQState, Metrics]:
    """Needs no randomness."""
    del key
    return discrete_q.update(config, state, batch, critic_loss)


cql_discrete = Algorithm(
    name="cql_discrete",
    Config=CQLDiscreteConfig,
    init=discrete_q.init_quantiles,
    update=update,
    act=discrete_q.act,
    value=discrete_q.value,
    citation="Kumar et al. 2020, arXiv:2006.04779",
    q_values=discrete_q.q_values,
    discrete=lambda config: True,
)
