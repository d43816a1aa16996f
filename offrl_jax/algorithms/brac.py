"""BRAC: an actor-critic whose actor (p), or actor and critics (v), pay for leaving the behaviour.

Citation: Wu et al. 2019, arXiv:1911.11361. KL-control (Jaques et al. 2019, arXiv:1907.00456) is
variant v with divergence kl and a fixed weight.
Update order: behaviour policy, in its own phase (for divergences that need one); then actor,
temperature and critics from the same old parameters → target critics → the divergence's critic →
its weight.
Checked against: the authors' code (google-research, behavior_regularized_offline_rl). Departures:
theirs steps the target critics first, then one loss after the other, each at the parameters that
the ones before have stepped; here all gradients are at the same old parameters. Each step of its
divergence's critic draws a batch of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import divergence_critic, soft_actor_critic
from offrl_jax.algorithms.common.agents import of_agent
from offrl_jax.algorithms.common.behavior import MMDConfig, likelihood_loss, mmd_penalty
from offrl_jax.algorithms.common.best_of_n import best_action, sample_noise
from offrl_jax.algorithms.common.critics import (
    critic_loss,
    minimum_q,
    q_values,
    state_q_values,
)
from offrl_jax.algorithms.common.divergence_critic import DUAL
from offrl_jax.algorithms.common.soft_actor_critic import (
    Context,
    SoftActorCriticConfig,
    SoftActorCriticState,
    policy_of,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.divergences import gaussian_kl
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import gaussian_policy, init_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

PRIMAL = ("kl", "reverse_kl", "mmd")
WEIGHT_RANGE = (0.0, 500.0)
BEHAVIOR_LOG_STD_RANGE = (-5.0, 0.0)  # a narrow β makes the KL divergence explode


@config
class BRACConfig(MMDConfig, SoftActorCriticConfig):
    variant: str = setting(
        "v", "p: only the actor pays for the divergence; v: the value does too", choices=("p", "v")
    )
    penalty_position: str = setting(
        "next_state",
        "where variant v pays, next_state: α D(s′) inside γ (authors); state: α D(s) outside it",
        choices=("next_state", "state"),
    )
    divergence: str = setting(
        "kl",
        "kl: KL(π‖β), reverse_kl: KL(β‖π) and mmd use a model of β; the others learn a critic that "
        "discriminates actions of π from the data's",
        choices=(*PRIMAL, *DUAL),
    )
    divergence_weight: float = setting(1.0, "α of the divergence (at the start)", low=0, high=500)
    divergence_weight_learning_rate: float = setting(
        0.0, "α grows by this times (mean D − divergence_threshold) a step; 0 keeps it fixed", low=0
    )
    divergence_threshold: float = setting(0.0, "ε of the divergence, where α learns")
    num_warmup_steps: int = setting(
        20_000, "first steps of the actor in which it minimises the divergence alone", low=0
    )
    num_behavior_steps: int = setting(
        300_000,
        "steps that pretrain the model of β, where the divergence needs one; 0 leaves it untrained",
        low=0,
    )
    behavior_learning_rate: float = setting(5e-4, "Adam's step size for β", low=0)
    divergence_critic_learning_rate: float = setting(
        1e-4, "Adam's step size for the divergence's critic", low=0
    )
    num_divergence_critic_steps: int = setting(
        3, "steps of the divergence's critic to one of the actor", low=1, high=100
    )
    gradient_penalty_weight: float = setting(
        5.0, "weight of the gradient penalty of the divergence's critic", low=0
    )
    num_action_samples: int = setting(
        1, "actions among which acting takes the best; 1: the policy's mode", low=1
    )
    initial_temperature: float = setting(
        0.0, "entropy temperature at the start; 0 leaves entropy out", low=0
    )
    temperature_learning_rate: float = setting(
        0.0, "Adam's step size for the log temperature; 0 keeps it fixed", low=0
    )
    actor_learning_rate: float = setting(3e-5, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(1e-3, "Adam's step size for the critics", low=0)
    actor_network: nn.Module = network_setting(MLP((200, 200)), "network of the actor and of β")
    critic_network: nn.Module = network_setting(
        MLP((300, 300)), "network of each critic and of the divergence's critic"
    )
    mmd_sigma_convention: str = setting(
        "brac", "bear: exp(−distance / 2σ); brac: exp(−distance / σ)", choices=("bear", "brac")
    )
    mmd_root: bool = setting(False, "sqrt(MMD² + 1e-6) rather than MMD²")
    mmd_pre_tanh: bool = setting(False, "compare actions before their tanh rather than after it")


class BRACState(NamedTuple):
    agent: SoftActorCriticState
    behavior: Trainable | None  # policy and log temperature of β; None for a dual divergence
    divergence_critic: Trainable | None  # None for a primal one
    divergence_weight: Float[Array, ""]

    @property
    def step(self) -> Array:
        return self.agent.step


def init(config: BRACConfig, spec: Spec, key: Key) -> BRACState:
    """The soft actor-critic of the same key, with what the divergence needs beside it."""
    extra_key = jax.random.fold_in(key, 2)  # the agent splits off 0 and 1
    behavior = critic = None
    if config.divergence in PRIMAL:
        policy = init_policy(config.actor_network, 2 * spec.action_size, spec, extra_key)
        behavior = Trainable.create({"policy": policy, "log_temperature": jnp.float32(0.0)})
    else:
        critic = divergence_critic.init(config, spec, extra_key)
    return BRACState(
        agent=soft_actor_critic.init(config, spec, key),
        behavior=behavior,
        divergence_critic=critic,
        divergence_weight=jnp.float32(config.divergence_weight),
    )


def behavior_policy(
    config: BRACConfig, behavior: Any, observation: Float[Array, "B O"]
) -> TanhGaussian:
    """β(·|s)."""
    network, policy = config.actor_network, behavior["policy"]
    return gaussian_policy(network, policy, observation, log_std_range=BEHAVIOR_LOG_STD_RANGE)


def behavior_loss(
    config: BRACConfig, behavior: Any, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b [ −log β(a|s) + α log β(ã|s) ], ã ~ β, with α learnt so that β keeps entropy −A.

    Source: Wu et al. 2019, arXiv:1911.11361, section 5, with the entropy term of the authors' code.
    """
    policy = behavior_policy(config, behavior, batch.observation)
    _, sampled_log_prob = policy.sample_and_log_prob(key)
    entropy = -jnp.mean(sampled_log_prob)
    temperature = jnp.exp(behavior["log_temperature"])
    negative_log_likelihood = likelihood_loss(policy, batch.action)
    loss = negative_log_likelihood - jax.lax.stop_gradient(temperature) * entropy
    temperature_loss = soft_actor_critic.temperature_loss(
        config, behavior["log_temperature"], sampled_log_prob, batch.action.shape[-1]
    )
    metrics = {"behavior/loss": negative_log_likelihood, "behavior/entropy": entropy}
    return loss + temperature_loss, metrics


def behavior_update(
    config: BRACConfig, state: BRACState, batch: Transition, key: Key
) -> tuple[BRACState, Metrics]:
    """A step of the pretraining phase: β alone learns."""
    behavior, metrics = state.behavior.minimize(
        lambda behavior: behavior_loss(config, behavior, batch, key),
        config.behavior_learning_rate,
    )
    agent = state.agent._replace(step=state.step + 1)
    return state._replace(agent=agent, behavior=behavior), metrics


def divergence(
    config: BRACConfig,
    state: BRACState,
    policy: TanhGaussian,
    batch: Transition,
    key: Key,
) -> Float[Array, "B"]:
    """D(π, β)(s) at the batch's states.

    kl, reverse_kl: in closed form, as squashing changes neither. mmd: from samples of π and of the
    model of β. Otherwise the `estimate` of the divergence's critic.

    Source: Wu et al. 2019, arXiv:1911.11361, section 4.
    Departs from the paper: KL is exact where the authors' code samples it.
    """
    if config.divergence in DUAL:
        action, _ = policy.sample_and_log_prob(key)
        return divergence_critic.estimate(config, state.divergence_critic.params, batch, action)
    behavior = behavior_policy(config, state.behavior.params, batch.observation)
    if config.divergence == "kl":
        return gaussian_kl(*policy, *behavior)
    if config.divergence == "reverse_kl":
        return gaussian_kl(*behavior, *policy)
    shape = policy.mean.shape[0], config.num_mmd_samples, policy.mean.shape[1]
    noise, behavior_noise = jax.random.normal(key, (2, *shape))
    return mmd_penalty(config, policy.pre_tanh(noise), behavior.pre_tanh(behavior_noise))


def actor_loss(
    config: BRACConfig,
    actor: Any,
    state: BRACState,
    batch: Transition,
    *,
    key: Key,
    divergence_key: Key,
) -> tuple[Float[Array, ""], tuple[Metrics, TanhGaussian, Float[Array, "B"]]]:
    """mean_b [ α_e log π(a|s) + α D(π, β)(s) − min_k Q_k(s, a) ], without Q in the warm-up.

    Returns what `soft_actor_critic.actor_loss` does.

    Source: Wu et al. 2019, arXiv:1911.11361, eq. 4 (α_e: the temperature of entropy).
    """
    policy = policy_of(config, actor, batch.observation)
    action, log_prob = policy.sample_and_log_prob(key)
    q = minimum_q(config, state.agent.critic.params, batch.observation, action)
    distance = divergence(config, state, policy, batch, divergence_key)
    started = state.step >= num_pretraining_steps(config) + config.num_warmup_steps
    temperature = jnp.exp(state.agent.temperature.params)
    loss = jnp.mean(temperature * log_prob + state.divergence_weight * distance - started * q)
    metrics = {
        "actor/loss": loss,
        "actor/entropy": -jnp.mean(log_prob),
        "actor/divergence": jnp.mean(distance),
    }
    return loss, (metrics, policy, log_prob)


def penalised_target(
    config: BRACConfig, state: BRACState, context: Context, key: Key
) -> Float[Array, "B"]:
    """p: y, soft actor-critic's r + γ (1 − d) V̄(s′);   v: y − γ (1 − d) α D(s′), or with
    `penalty_position` state y − α D(s).

    A dual divergence needs the data's next action, so a cut episode pays nothing at its last s′.

    Source: Wu et al. 2019, arXiv:1911.11361, eq. 3; the lecture prints the other placement, whose
    fixed point differs.
    """
    batch = context.batch
    if config.variant == "p":
        return context.target
    if config.penalty_position == "state":
        penalty = divergence(config, state, context.policy, batch, key)
    else:
        after = batch._replace(observation=batch.next_observation, action=batch.next_action)
        penalty = divergence(config, state, context.next_policy, after, key)
        if config.divergence in DUAL:
            penalty = penalty * batch.next_action_valid
        penalty = config.discount * (1.0 - batch.terminal) * penalty
    return context.target - jax.lax.stop_gradient(state.divergence_weight * penalty)


def update(
    config: BRACConfig, state: BRACState, batch: Transition, key: Key
) -> tuple[BRACState, Metrics]:
    distance_key, target_key, critic_key = jax.random.split(jax.random.fold_in(key, 3), 3)
    agent, context, metrics = soft_actor_critic.policy_step(
        config,
        state.agent,
        batch,
        key,
        lambda config, actor, agent, batch, key: actor_loss(
            config, actor, state, batch, key=key, divergence_key=distance_key
        ),
    )
    target = penalised_target(config, state, context, target_key)
    gradient, critic_metrics = jax.grad(critic_loss, argnums=1, has_aux=True)(
        config, agent.critic.params, batch, target
    )
    agent = soft_actor_critic.critic_step(config, agent, gradient)
    metrics |= critic_metrics | {"actor/divergence_weight": state.divergence_weight}
    critic = state.divergence_critic
    if critic is not None:
        critic, critic_metrics = divergence_critic.steps(
            config, critic, context.policy, batch, critic_key
        )
        metrics |= critic_metrics
    growth = metrics["actor/divergence"] - config.divergence_threshold
    weight = state.divergence_weight + config.divergence_weight_learning_rate * growth
    return BRACState(agent, state.behavior, critic, jnp.clip(weight, *WEIGHT_RANGE)), metrics


def num_pretraining_steps(config: BRACConfig) -> int:
    return config.num_behavior_steps if config.divergence in PRIMAL else 0


def phases(config: BRACConfig, update: Callable) -> tuple[Phase, ...]:
    return Phase((behavior_update,), num_pretraining_steps(config)), Phase((update,))


def act(
    config: BRACConfig, state: BRACState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The mode, or with `num_action_samples` the sample of highest Q_1."""
    if config.num_action_samples == 1:
        return soft_actor_critic.act(config, state.agent, observation, key)
    policy = policy_of(config, state.agent.actor.params, observation)
    shape = observation.shape[0], config.num_action_samples, policy.mean.shape[-1]
    action = jnp.tanh(policy.pre_tanh(sample_noise(key, *shape)))
    return best_action(action, q_values(config, state.agent.critic.params, observation, action)[0])


def value(
    config: BRACConfig, state: BRACState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.agent.critic.params, observation, action)


brac = Algorithm(
    name="brac",
    Config=BRACConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Wu et al. 2019, arXiv:1911.11361",
    phases=phases,
    q_values=of_agent(state_q_values),
)
