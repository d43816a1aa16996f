"""BCQ over discrete actions: Q-learning whose maximum is taken over the actions that an imitation
of the data finds likely enough.

Citation: Fujimoto et al. 2019, arXiv:1910.01708.
Update order: critic and imitation, which share all but their heads → target critic.
Checked against: the authors' code (sfujim/BCQ, discrete_BCQ at 4876f7e).
Departures: critic and imitation share every layer but the head, there the convolutions alone and on
low-dimensional states nothing; actions are never taken at random in evaluation, there 1 in 1000.
"""

from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import discrete_q
from offrl_jax.algorithms.common.discrete_q import DiscreteQConfig, DiscreteQState
from offrl_jax.config import config, setting
from offrl_jax.losses.td import huber_loss, td_target
from offrl_jax.types import Array, Bool, Float, Key, Metrics, Scalar, Spec, Transition


@config
class BCQDiscreteConfig(DiscreteQConfig):
    support_threshold: float = setting(
        0.3,
        "τ: actions less likely than τ times the likeliest are never taken; 0 is DQN, just below "
        "1 cloning",
        low=0,
        high=1,
    )
    logit_penalty: float = setting(1e-2, "weight of the imitation's squared logits", low=0)


def init(config: BCQDiscreteConfig, spec: Spec, key: Key) -> DiscreteQState:
    return discrete_q.init(config, spec, key, 2)


def q_and_logits(
    config: BCQDiscreteConfig, critic: Any, observation: Float[Array, "B O"]
) -> tuple[Float[Array, "B A"], Float[Array, "B A"]]:
    """Q(s, ·) and the imitation's logits i(s, ·)."""
    both = discrete_q.outputs(config, critic, observation, 2)
    return both[:, 0], both[:, 1]


def is_supported(logits: Float[Array, "B A"], threshold: Scalar) -> Bool[Array, "B A"]:
    """G(a|s) / max_a′ G(a′|s) > τ with G = softmax(i), or the likeliest action itself.

    Source: Fujimoto et al. 2019, arXiv:1910.01708, discrete BCQ.
    Departs from the paper: the likeliest counts at τ = 1 too, where the set would be empty.
    """
    relative = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return (relative > threshold) | (relative == 1)


def constrained_greedy(
    q: Float[Array, "B A"], logits: Float[Array, "B A"], threshold: Scalar
) -> Float[Array, "B A"]:
    """argmax of Q over the supported actions, as a one-hot row; others count as −∞, since 0 would
    beat negative values."""
    return discrete_q.greedy(jnp.where(is_supported(logits, threshold), q, -jnp.inf))


def critic_loss(
    config: BCQDiscreteConfig, critic: Any, state: DiscreteQState, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b[ L_κ( y − Q(s, a) ) − log G(a|s) ] + λ mean i(s, ·)²,

    y = r + γ (1 − d) Q̄(s′, a′),   a′ = argmax of Q over the supported actions of s′.

    Source: Fujimoto et al. 2019, arXiv:1910.01708, discrete BCQ; λ from the authors' code.
    """
    next_action = constrained_greedy(
        *q_and_logits(config, state.critic.params, batch.next_observation), config.support_threshold
    )
    next_q, _ = q_and_logits(config, state.target_critic, batch.next_observation)
    next_value = discrete_q.of_action(next_q, next_action)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)

    q, logits = q_and_logits(config, critic, batch.observation)
    taken = discrete_q.of_action(q, batch.action)
    td_loss = jnp.mean(huber_loss(target - taken, config.huber_threshold))
    imitation_loss = -jnp.mean(discrete_q.of_action(jax.nn.log_softmax(logits), batch.action))
    loss = td_loss + imitation_loss + config.logit_penalty * jnp.mean(jnp.square(logits))
    support = jnp.sum(is_supported(logits, config.support_threshold), axis=-1)
    return loss, {
        "critic/loss": loss,
        "critic/td_loss": td_loss,
        "critic/q": jnp.mean(taken),
        "behavior/loss": imitation_loss,
        "behavior/supported_actions": jnp.mean(support.astype(jnp.float32)),
    }


def update(
    config: BCQDiscreteConfig, state: DiscreteQState, batch: Transition, key: Key
) -> tuple[DiscreteQState, Metrics]:
    """Needs no randomness."""
    del key
    return discrete_q.update(config, state, batch, critic_loss)


def act(
    config: BCQDiscreteConfig,
    state: DiscreteQState,
    observation: Float[Array, "B O"],
    key: Key | None,
) -> Float[Array, "B A"]:
    """argmax of Q over the supported actions, with or without a key."""
    del key
    q, logits = q_and_logits(config, state.critic.params, observation)
    return constrained_greedy(q, logits, config.support_threshold)


def value(
    config: BCQDiscreteConfig, state: DiscreteQState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """Q(s, a) of the action taken."""
    return q_values(config, state, observation, act(config, state, observation, None))[0]


def q_values(
    config: BCQDiscreteConfig,
    state: DiscreteQState,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "1 B *N"]:
    q, _ = q_and_logits(config, state.critic.params, observation)
    return discrete_q.of_actions(q, action)


bcq_discrete = Algorithm(
    name="bcq_discrete",
    Config=BCQDiscreteConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Fujimoto et al. 2019, arXiv:1910.01708",
    q_values=q_values,
    discrete=lambda config: True,
)
