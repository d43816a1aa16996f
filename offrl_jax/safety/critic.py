"""The accident critic: Q_C of a cost of 1 at accidents, made to err on the safe side.

Citation: Bharadhwaj et al. 2021, Conservative Safety Critics for Exploration, arXiv:2010.14497.
Checked against: the fixed points of `offrl_jax.tabular.safety`; the authors published no code.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.losses.conservative import logmeanexp
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.heads import critic_values, init_critics
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.safety.replay import Experience
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import Array, Float, Key, Metrics, Spec


class AccidentCritic(NamedTuple):
    """Q_C, an ensemble of one, and the parameters of Q̄_C."""

    network: Trainable
    target_network: Any


def init_accident_critic(config: SafetyConfig, spec: Spec, key: Key) -> AccidentCritic:
    """A fresh critic, its target equal to it."""
    network = init_critics(MLP(config.hidden_sizes), 1, spec, key)
    return AccidentCritic(Trainable.create(network), network)


def accident_q(
    config: SafetyConfig,
    params: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "B *N"]:
    """Q̂_C(s, a), for one action a state or several."""
    return critic_values(MLP(config.hidden_sizes), params, observation, action)[0]


def bellman_loss(q: Float[Array, "B"], target: Float[Array, "B"]) -> Float[Array, ""]:
    """½ E_D ( Q_C − B^π Q̄_C )²."""
    return 0.5 * jnp.mean(jnp.square(q - target))


def conservative_penalty(
    form: str,
    q_data: Float[Array, "B"],
    q_policy: Float[Array, "B N"],
    q_uniform: Float[Array, "B M"],
) -> Float[Array, ""]:
    """What α multiplies beside `bellman_loss`, at N actions of π and M uniform ones a state.

    value:     E_D Q_C − E_{s~D, a~π} Q_C
               raises π's actions and lowers the data's: V̂_C ≥ V_C, by α (I − γ P_π)⁻¹ χ²(π‖β).
               Single actions with π < β come out *below* the truth.
    pointwise: −E_{s~D, a~μ} Q_C, μ uniform
               raises all and lowers none: Q̂_C ≥ Q_C at every action, which a shield reads.
    logsumexp: E_D [ log E_{a~½(μ+π)} e^{−Q_C(s, a)} ] + E_D Q_C
               CQL(H) of −Q_C: raises what looks safe. (−log E e^{Q_C} would have no minimum.)
    ordinary:  E_{s~D, a~π} Q_C − E_D Q_C
               the sign of CQL, which the lecture and some code print: V̂_C ≤ V_C. For comparison.

    Source: Bharadhwaj et al. 2021, arXiv:2010.14497, the critic's update of section 3.
    Departs from the paper: the forms beside `value`.
    """
    everything = jnp.concatenate([q_policy, q_uniform], axis=1)
    return {
        "value": lambda: jnp.mean(q_data) - jnp.mean(q_policy),
        "pointwise": lambda: -jnp.mean(q_uniform),
        "logsumexp": lambda: jnp.mean(logmeanexp(-everything)) + jnp.mean(q_data),
        "ordinary": lambda: jnp.mean(q_policy) - jnp.mean(q_data),
    }[form]()


def accident_target(
    config: SafetyConfig, batch: Experience, next_q: Float[Array, "B N"]
) -> Float[Array, "B"]:
    """y = C + γ (1 − d) E_{a′~π} Q̄_C(s′, a′), in [0, 1] if `clip_accidents`.

    V_C is a probability, so that an upper bound stays one under the clip.
    """
    target = td_target(
        batch.cost, batch.terminal, jnp.mean(next_q, axis=1), config.accident_discount
    )
    return jnp.clip(target, 0.0, 1.0) if config.clip_accidents else target


def critic_loss(
    config: SafetyConfig,
    critic: Any,
    batch: Experience,
    *,
    target_critic: Any,
    policy_action: Float[Array, "B N A"],
    next_action: Float[Array, "B N A"],
    key: Key,
) -> tuple[Float[Array, ""], Metrics]:
    """½ E_D ( Q_C − B^π Q̄_C )² + α · `conservative_penalty`, with N uniform actions a state.

    With `clip_accidents` the penalty raises no Q_C beyond 1 and lowers none below 0, where no
    probability is: off the data nothing else would stop it.

    Args:
      config: The settings.
      critic: Parameters of Q_C.
      batch: Of D.
      target_critic: Parameters of Q̄_C.
      policy_action: Of π at s.
      next_action: Of π at s′.
      key: Of the uniform actions.
    """
    uniform = jax.random.uniform(key, policy_action.shape, minval=-1.0, maxval=1.0)
    next_q = accident_q(config, target_critic, batch.next_observation, next_action)
    target = accident_target(config, batch, next_q)
    actions = jnp.concatenate([batch.action[:, None], policy_action, uniform], axis=1)
    q = accident_q(config, critic, batch.observation, actions)
    q_data, (q_policy, q_uniform) = q[:, 0], jnp.split(q[:, 1:], 2, axis=1)
    bellman = bellman_loss(q_data, target)
    penalty = conservative_penalty(config.penalty, *_pushable(config, q_data, q_policy, q_uniform))
    return bellman + config.conservative_weight * penalty, {
        "critic/bellman_loss": bellman,
        "critic/penalty": penalty,
        "critic/q_data": jnp.mean(q_data),
        "critic/q_policy": jnp.mean(q_policy),
        "critic/q_uniform": jnp.mean(q_uniform),
    }


def _pushable(
    config: SafetyConfig, q_data: Array, q_policy: Array, q_uniform: Array
) -> tuple[Array, Array, Array]:
    """The values as the penalty sees them: constant where it would push them out of [0, 1]."""
    if not config.clip_accidents:
        return q_data, q_policy, q_uniform
    if config.penalty == "ordinary":
        return jnp.minimum(q_data, 1.0), jnp.maximum(q_policy, 0.0), q_uniform
    return jnp.maximum(q_data, 0.0), jnp.minimum(q_policy, 1.0), jnp.minimum(q_uniform, 1.0)


def critic_step(
    config: SafetyConfig,
    critic: AccidentCritic,
    batch: Experience,
    *,
    policy_action: Float[Array, "B N A"],
    next_action: Float[Array, "B N A"],
    key: Key,
) -> tuple[AccidentCritic, Metrics]:
    """One step of Adam on `critic_loss`, after which the target follows."""
    network, metrics = critic.network.minimize(
        lambda network: critic_loss(
            config,
            network,
            batch,
            target_critic=critic.target_network,
            policy_action=policy_action,
            next_action=next_action,
            key=key,
        ),
        config.critic_learning_rate,
    )
    target_network = polyak(critic.target_network, network.params, config.target_update_rate)
    return AccidentCritic(network, target_network), metrics
