"""What soft actor-critics share: their state, the actor's and the temperature's losses, acting.

Source: Haarnoja et al. 2018, arXiv:1812.05905, with a minimum over E critics (E = 2: SAC;
larger: SAC-N, An et al. 2021, arXiv:2110.01548).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.critics import minimum_q, q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import gaussian_policy, init_critics, init_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition

BACKUPS = ("deterministic", "entropy", "mean_action", "max_min", "min_max")
BACKUP_HELP = (
    "V(s′) from a′ ~ π. deterministic: min_k Q; entropy: less α log π; mean_action: at π's mode "
    "instead; max_min: max of min_k Q over several a′; min_max: min_k of each one's max"
)
MIN_TEMPERATURE = 1e-8  # stands for 0, whose logarithm is not a number to learn


@config
class SoftActorCriticConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    target_update_rate: float = setting(0.005, "Polyak rate of the target critics", low=0, high=1)
    actor_learning_rate: float = setting(3e-4, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(3e-4, "Adam's step size for the critics", low=0)
    temperature_learning_rate: float = setting(
        3e-4, "Adam's step size for log α; 0 keeps α fixed", low=0
    )
    initial_temperature: float = setting(
        1.0, "entropy temperature α at the start; 0 leaves entropy out", low=0
    )
    target_entropy_per_action: float = setting(
        -1.0, "entropy target, times the number of action dimensions"
    )
    backup: str = setting("entropy", BACKUP_HELP, choices=BACKUPS)
    num_backup_actions: int = setting(10, "actions a′ of max_min and min_max", low=1)
    num_critics: int = setting(2, "E, critics whose minimum is used (SAC-N: 10 to 500)", low=1)
    actor_network: nn.Module = network_setting(MLP(), "actor's network")
    critic_network: nn.Module = network_setting(MLP(), "network of each critic")
    batch_size: int = setting(256, "transitions a step", low=1)


class SoftActorCriticState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    critic: Trainable  # stacked over E
    target_critic: Any
    temperature: Trainable  # log α


class Context(NamedTuple):
    """Inputs of the critics' loss, all from before the step."""

    batch: Transition
    target: Float[Array, "B"]  # y
    policy: TanhGaussian  # π(·|s)
    next_policy: TanhGaussian  # π(·|s′)
    key: Key


def init(config: SoftActorCriticConfig, spec: Spec, key: Key) -> SoftActorCriticState:
    """Fresh parameters, the target critics equal to the critics."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_policy(config.actor_network, 2 * spec.action_size, spec, actor_key)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    temperature = jnp.maximum(jnp.float32(config.initial_temperature), MIN_TEMPERATURE)
    return SoftActorCriticState(
        step=jnp.int32(0),
        actor=Trainable.create(actor),
        critic=Trainable.create(critic),
        target_critic=critic,
        temperature=Trainable.create(jnp.log(temperature)),
    )


def policy_of(
    config: SoftActorCriticConfig, actor: Any, observation: Float[Array, "B O"]
) -> TanhGaussian:
    """π(·|s)."""
    return gaussian_policy(config.actor_network, actor, observation)


def actor_loss(
    config: Any, actor: Any, state: SoftActorCriticState, batch: Transition, key: Key
) -> tuple[Float[Array, ""], tuple[Metrics, TanhGaussian, Float[Array, "B"]]]:
    """E_{s~D, a~π}[ α log π(a|s) − min_k Q_k(s, a) ].

    Returns the loss, and (metrics, π(·|s), log π(a|s)) for other losses to share.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 7.
    """
    policy = policy_of(config, actor, batch.observation)
    action, log_prob = policy.sample_and_log_prob(key)
    q = minimum_q(config, state.critic.params, batch.observation, action)
    loss = jnp.mean(jnp.exp(state.temperature.params) * log_prob - q)
    metrics = {"actor/loss": loss, "actor/entropy": -jnp.mean(log_prob)}
    return loss, (metrics, policy, log_prob)


def temperature_loss(
    config: Any, log_temperature: Float[Array, ""], log_prob: Float[Array, "B"], action_size: int
) -> Float[Array, ""]:
    """−log α · sg E[ log π(a|s) + H̄ ]: raises α while the policy's entropy is below H̄.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    Departs from the paper: linear in log α instead of α, as most public code (rlkit, CQL).
    """
    target_entropy = config.target_entropy_per_action * action_size
    return -log_temperature * jax.lax.stop_gradient(jnp.mean(log_prob) + target_entropy)


def next_state_value(
    config: Any, state: SoftActorCriticState, batch: Transition, policy: TanhGaussian, key: Key
) -> Float[Array, "B"]:
    """V̄(s′) of π(·|s′) under the target critics, by `config.backup`:

    deterministic  min_k Q̄_k(s′, a′)
    entropy        min_k Q̄_k(s′, a′) − α log π(a′|s′)
    mean_action    min_k Q̄_k(s′, mode of π)
    max_min        max_j min_k Q̄_k(s′, a′_j)
    min_max        min_k max_j Q̄_k(s′, a′_j)

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 3 (entropy); Kumar et al. 2020 (CQL),
    arXiv:2006.04779, appendix F (deterministic) and the authors' code (min_max), JaxCQL (max_min),
    d3rlpy (mean_action).
    """

    def target_q(action: Float[Array, "B *N A"]) -> Float[Array, "E B *N"]:
        return q_values(config, state.target_critic, batch.next_observation, action)

    if config.backup == "mean_action":
        return jnp.min(target_q(policy.mode()), axis=0)
    if config.backup in ("max_min", "min_max"):
        q = target_q(policy.sample_and_log_prob(key, config.num_backup_actions)[0])
        if config.backup == "max_min":
            return jnp.max(jnp.min(q, axis=0), axis=-1)
        return jnp.min(jnp.max(q, axis=-1), axis=0)
    action, log_prob = policy.sample_and_log_prob(key)
    value = jnp.min(target_q(action), axis=0)
    if config.backup == "entropy":
        value = value - jnp.exp(state.temperature.params) * log_prob
    return value


def policy_step(
    config: Any,
    state: SoftActorCriticState,
    batch: Transition,
    key: Key,
    actor_loss: Callable = actor_loss,
) -> tuple[SoftActorCriticState, Context, Metrics]:
    """One step of actor and temperature.

    Returns the new state, and the inputs of the critics' loss from the old one. So all gradients of
    an update are taken at the same old parameters, and each policy is evaluated once.
    """
    actor_key, next_key, critic_key = jax.random.split(key, 3)
    actor, (metrics, policy, log_prob) = state.actor.minimize(
        lambda actor: actor_loss(config, actor, state, batch, actor_key),
        config.actor_learning_rate,
    )
    next_policy = policy_of(config, state.actor.params, batch.next_observation)
    next_value = next_state_value(config, state, batch, next_policy, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    context = Context(batch, target, policy, next_policy, critic_key)
    temperature = temperature_step(config, state, log_prob, batch.action.shape[-1])
    metrics |= {"actor/temperature": jnp.exp(state.temperature.params)}
    return state._replace(actor=actor, temperature=temperature), context, metrics


def temperature_step(
    config: Any, state: SoftActorCriticState, log_prob: Float[Array, "B"], action_size: int
) -> Trainable:
    """The temperature after one step on `temperature_loss`."""
    gradient = jax.grad(temperature_loss, argnums=1)(
        config, state.temperature.params, log_prob, action_size
    )
    return state.temperature.step(gradient, config.temperature_learning_rate)


def critic_step(config: Any, state: SoftActorCriticState, gradient: Any) -> SoftActorCriticState:
    """One step of the critics; then the target critics follow and `step` increases by 1."""
    critic = state.critic.step(gradient, config.critic_learning_rate)
    target_critic = polyak(state.target_critic, critic.params, config.target_update_rate)
    return state._replace(step=state.step + 1, critic=critic, target_critic=target_critic)


def act(
    config: Any, state: SoftActorCriticState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = policy_of(config, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample_and_log_prob(key)[0]


def value(
    config: Any, state: SoftActorCriticState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s)) at the policy's mode, which is how it acts in evaluation."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)
