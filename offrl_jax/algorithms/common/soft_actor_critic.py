"""What soft actor-critics share: their state, the actor's and the temperature's losses, acting.

Source: Haarnoja et al. 2018, arXiv:1812.05905, with a minimum over E critics (E = 2: SAC;
larger: SAC-N, An et al. 2021, arXiv:2110.01548).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.common.critics import minimum_q, q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import gaussian_policy, init_critics, init_policy
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Int, Key, Metrics, Scalar, Spec, Transition

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
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), "critics' hidden layers", low=1)
    batch_size: int = setting(256, "transitions a step", low=1)


class SoftActorCriticState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    log_temperature: Float[Array, ""]
    actor_optimizer: Any
    critic_optimizer: Any
    temperature_optimizer: Any


def init(config: SoftActorCriticConfig, spec: Spec, key: Key) -> SoftActorCriticState:
    """Fresh parameters, the target critics equal to the critics."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_policy(
        config.actor_hidden_sizes, spec.observation_size, 2 * spec.action_size, actor_key
    )
    critic = init_critics(config.critic_hidden_sizes, config.num_critics, spec, critic_key)
    log_temperature = jnp.log(jnp.maximum(jnp.float32(config.initial_temperature), MIN_TEMPERATURE))
    return SoftActorCriticState(
        step=jnp.int32(0),
        actor=actor,
        critic=critic,
        target_critic=critic,
        log_temperature=log_temperature,
        actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
        critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
        temperature_optimizer=optax.adam(config.temperature_learning_rate).init(log_temperature),
    )


def policy_of(
    config: SoftActorCriticConfig, actor: Any, observation: Float[Array, "B O"]
) -> TanhGaussian:
    """π(·|s)."""
    return gaussian_policy(config.actor_hidden_sizes, actor, observation)


def actor_loss(
    actor: Any, state: Any, batch: Transition, key: Key, config: Any
) -> tuple[Float[Array, ""], tuple]:
    """E_{s~D, a~π}[ α log π(a|s) − min_k Q_k(s, a) ].

    Returns the loss, and π(·|s) with the log-density of its sample for the other losses to share.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 7.
    """
    policy = policy_of(config, actor, batch.observation)
    action, log_prob = policy.sample_and_log_prob(key)
    q = minimum_q(config, state.critic, batch.observation, action)
    loss = jnp.mean(jnp.exp(state.log_temperature) * log_prob - q)
    return loss, (policy, log_prob)


def temperature_loss(
    log_temperature: Float[Array, ""], log_prob: Float[Array, "B"], target_entropy: Scalar
) -> Float[Array, ""]:
    """−log α · sg E[ log π(a|s) + H̄ ]: raises α while the policy's entropy is below H̄.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    Departs from the paper: linear in log α instead of α, as most public code (rlkit, CQL).
    """
    return -log_temperature * jax.lax.stop_gradient(jnp.mean(log_prob) + target_entropy)


def next_state_value(
    config: Any, state: Any, batch: Transition, policy: TanhGaussian, key: Key
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
        value = value - jnp.exp(state.log_temperature) * log_prob
    return value


def update(
    config: Any,
    state: Any,
    batch: Transition,
    key: Key,
    critic_gradient: Callable,
    actor_loss: Callable = actor_loss,
) -> tuple[Any, Metrics]:
    """One step of actor, critics and temperature, their gradients all at the same old parameters,
    so that each policy is evaluated once; then the target critics follow.

    Args:
      config: The algorithm's.
      state: Before the step; has the fields of `SoftActorCriticState`.
      batch: (B, ...).
      key: Of this step.
      critic_gradient: (critic, state, batch, target, policy, next_policy, key, config) ->
        (gradient of the critics' loss, metrics), where target is the TD target (B,) and the
        policies are π(·|s) and π(·|s′).
      actor_loss: Like `actor_loss` here.
    """
    actor_key, next_key, critic_key = jax.random.split(key, 3)
    (policy_loss, (policy, log_prob)), actor_gradient = jax.value_and_grad(
        actor_loss, has_aux=True
    )(state.actor, state, batch, actor_key, config)

    next_policy = policy_of(config, state.actor, batch.next_observation)
    next_value = next_state_value(config, state, batch, next_policy, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    of_critic, metrics = critic_gradient(
        state.critic, state, batch, target, policy, next_policy, critic_key, config
    )

    target_entropy = config.target_entropy_per_action * batch.action.shape[-1]
    temperature_gradient = jax.grad(temperature_loss)(
        state.log_temperature, log_prob, target_entropy
    )
    metrics |= {
        "actor/loss": policy_loss,
        "actor/entropy": -jnp.mean(log_prob),
        "actor/temperature": jnp.exp(state.log_temperature),
    }
    state = apply_gradients(config, state, actor_gradient, of_critic, temperature_gradient)
    return state, metrics


def apply_gradients(
    config: Any,
    state: Any,
    actor_gradient: Any,
    critic_gradient: Any,
    temperature_gradient: Float[Array, ""],
) -> Any:
    """One Adam step each, then the target critics follow."""
    actor, actor_optimizer = adam_step(
        config.actor_learning_rate, actor_gradient, state.actor, state.actor_optimizer
    )
    critic, critic_optimizer = adam_step(
        config.critic_learning_rate, critic_gradient, state.critic, state.critic_optimizer
    )
    log_temperature, temperature_optimizer = adam_step(
        config.temperature_learning_rate,
        temperature_gradient,
        state.log_temperature,
        state.temperature_optimizer,
    )
    return state._replace(
        step=state.step + 1,
        actor=actor,
        critic=critic,
        target_critic=polyak(state.target_critic, critic, config.target_update_rate),
        log_temperature=log_temperature,
        actor_optimizer=actor_optimizer,
        critic_optimizer=critic_optimizer,
        temperature_optimizer=temperature_optimizer,
    )


def act(
    config: Any, state: Any, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = policy_of(config, state.actor, observation)
    return policy.mode() if key is None else policy.sample_and_log_prob(key)[0]


def value(config: Any, state: Any, observation: Float[Array, "B O"]) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s)) at the policy's mode, which is how it acts in evaluation."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic, observation, action)
