"""BEAR: an actor that maximises Q while its actions' MMD to a model of the data stays below ε.

Citation: Kumar et al. 2019, arXiv:1906.00949.
Update order: behaviour model → critics → actor → multiplier → targets.
Checked against: the authors' code (aviralkumar2907/BEAR at f2e31c1), without its optional ensemble
variance; default learning rates, sizes and samples of their rlkit version for D4RL (ac45a9d).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.behavior import (
    LATENT_LIMIT,
    MMDConfig,
    cvae_loss,
    init_cvae,
    likelihood_loss,
    mmd_penalty,
    sample_cvae,
)
from offrl_jax.algorithms.common.best_of_n import best_action, best_action_value, sample_noise
from offrl_jax.algorithms.common.critics import (
    critic_loss,
    minimum_q,
    q_values,
    state_q_values,
)
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.heads import gaussian_policy, init_critics, init_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition

LOG_MULTIPLIER_RANGE = (-5.0, 10.0)


@config
class BEARConfig(MMDConfig):
    mmd_threshold: float = setting(
        0.05, "ε: the multiplier grows while the mean MMD is above it; see actor/multiplier_at_clip"
    )
    multiplier_learning_rate: float = setting(
        1e-3, "Adam's step size for log α of the constraint; 0 keeps α fixed", low=0
    )
    initial_log_multiplier: float = setting(
        0.0, "log α at the start, kept within its clip", low=-5, high=10
    )
    num_warmup_steps: int = setting(
        40_000, "first steps of the actor in which it minimises the MMD alone", low=0
    )
    minimum_weight: float = setting(
        0.75, "λ of the target's mix λ min Q + (1 − λ) max Q over critics", low=0, high=1
    )
    num_target_actions: int = setting(10, "candidates at s′ whose best is the target", low=1)
    num_action_samples: int = setting(10, "candidates among which acting takes the best", low=1)
    behavior: str = setting("cvae", "model of the data's actions", choices=("cvae", "gaussian"))
    num_behavior_steps: int = setting(
        0, "steps that pretrain the behaviour model, then frozen; 0: it learns alongside", low=0
    )
    discount: float = setting(0.99, "γ", low=0, high=1)
    target_update_rate: float = setting(0.005, "Polyak rate of all targets", low=0, high=1)
    behavior_learning_rate: float = setting(3e-4, "Adam's step size for the model", low=0)
    actor_learning_rate: float = setting(1e-4, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(3e-4, "Adam's step size for the critics", low=0)
    num_critics: int = setting(2, "E", low=1)
    behavior_network: nn.Module = network_setting(
        MLP((750, 750)),
        "network of the behaviour model; of its encoder and its decoder if it is a CVAE",
    )
    actor_network: nn.Module = network_setting(MLP(), "actor's network")
    critic_network: nn.Module = network_setting(MLP(), "network of each critic")
    batch_size: int = setting(256, "transitions a step", low=1)


class BEARState(NamedTuple):
    step: Int[Array, ""]
    behavior: Trainable
    actor: Trainable
    target_actor: Any
    critic: Trainable  # stacked over E
    target_critic: Any
    multiplier: Trainable  # log α


def init(config: BEARConfig, spec: Spec, key: Key) -> BEARState:
    behavior_key, actor_key, critic_key = jax.random.split(key, 3)
    if config.behavior == "cvae":
        behavior = init_cvae(config.behavior_network, spec, behavior_key)
    else:
        behavior = init_policy(config.behavior_network, 2 * spec.action_size, spec, behavior_key)
    actor = init_policy(config.actor_network, 2 * spec.action_size, spec, actor_key)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    return BEARState(
        step=jnp.int32(0),
        behavior=Trainable.create(behavior),
        actor=Trainable.create(actor),
        target_actor=actor,
        critic=Trainable.create(critic),
        target_critic=critic,
        multiplier=Trainable.create(jnp.float32(config.initial_log_multiplier)),
    )


def sample_policy(
    network: nn.Module,
    params: Any,
    observation: Float[Array, "B O"],
    *,
    num_samples: int,
    key: Key | None,
) -> Float[Array, "B N A"]:
    """u = μ(s) + σ(s) clip(ε, −½, ½) of N actions tanh u of a Gaussian policy."""
    policy = gaussian_policy(network, params, observation)
    noise = sample_noise(key, observation.shape[0], num_samples, policy.mean.shape[-1])
    return policy.pre_tanh(jnp.clip(noise, -LATENT_LIMIT, LATENT_LIMIT))


def sample_behavior(
    config: BEARConfig, behavior: Any, observation: Float[Array, "B O"], key: Key
) -> Float[Array, "B N A"]:
    """u of actions tanh u of the behaviour model, its noise clipped like the actor's."""
    sample = sample_cvae if config.behavior == "cvae" else sample_policy
    num = config.num_mmd_samples
    return sample(config.behavior_network, behavior, observation, num_samples=num, key=key)


def next_state_value(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """V̄(s′): `best_action_value` of the target critics and the target actor."""
    num, observation = config.num_target_actions, batch.next_observation
    pre_tanh = sample_policy(
        config.actor_network, state.target_actor, observation, num_samples=num, key=key
    )
    return best_action_value(config, state.target_critic, observation, jnp.tanh(pre_tanh))


def actor_loss(
    config: BEARConfig, actor: Any, state: BEARState, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """mean_b [ −min_k mean_j Q_k(s, a_j) + α MMD(π, β)(s) ], the second term alone in the warm-up.

    Source: Kumar et al. 2019, arXiv:1906.00949, eq. 4, as a Lagrangian.
    Departs from the paper: the mean over actions is inside the minimum, as in the authors' code.
    """
    policy_key, behavior_key = jax.random.split(key)
    num, observation = config.num_mmd_samples, batch.observation
    pre_tanh = sample_policy(
        config.actor_network, actor, observation, num_samples=num, key=policy_key
    )
    behavior = sample_behavior(config, state.behavior.params, observation, behavior_key)
    mmd = mmd_penalty(config, pre_tanh, behavior)
    q = q_values(config, state.critic.params, observation, jnp.tanh(pre_tanh))
    q = jnp.min(jnp.mean(q, axis=2), axis=0)
    started = state.step >= config.num_behavior_steps + config.num_warmup_steps
    loss = jnp.mean(jnp.exp(state.multiplier.params) * mmd - started * q)
    return loss, {"actor/loss": loss, "actor/mmd": jnp.mean(mmd)}


def multiplier_loss(
    config: BEARConfig, log_multiplier: Float[Array, ""], mmd: Float[Array, ""]
) -> Float[Array, ""]:
    """−α ( MMD − ε ), whose descent is the ascent of the dual: α rises while MMD > ε."""
    return -jnp.exp(log_multiplier) * (mmd - config.mmd_threshold)


def multiplier_step(
    config: BEARConfig, multiplier: Trainable, mmd: Float[Array, ""]
) -> tuple[Trainable, Metrics]:
    """One step on `multiplier_loss`, then log α is clipped."""
    gradient = jax.grad(multiplier_loss, argnums=1)(config, multiplier.params, mmd)
    multiplier = multiplier.step(gradient, config.multiplier_learning_rate)
    low, high = LOG_MULTIPLIER_RANGE
    log_multiplier = jnp.clip(multiplier.params, low, high)
    at_clip = (log_multiplier <= low) | (log_multiplier >= high)
    return multiplier._replace(params=log_multiplier), {
        "actor/multiplier": jnp.exp(log_multiplier),
        "actor/multiplier_at_clip": at_clip.astype(jnp.float32),
    }


def behavior_loss(
    config: BEARConfig, behavior: Any, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """The CVAE's loss, or the Gaussian's negative log-likelihood."""
    if config.behavior == "cvae":
        return cvae_loss(config, behavior, batch, key)
    policy = gaussian_policy(config.behavior_network, behavior, batch.observation)
    loss = likelihood_loss(policy, batch.action)
    return loss, {"behavior/loss": loss}


def behavior_update(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> tuple[BEARState, Metrics]:
    """A step of the behaviour model alone."""
    behavior, metrics = state.behavior.minimize(
        lambda behavior: behavior_loss(config, behavior, batch, key),
        config.behavior_learning_rate,
    )
    return state._replace(step=state.step + 1, behavior=behavior), metrics


def update(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> tuple[BEARState, Metrics]:
    """One step of all networks; first of the behaviour model, unless its own phase fits it."""
    metrics = {}
    if config.num_behavior_steps == 0:
        behavior_key, key = jax.random.split(key)
        fitted, metrics = behavior_update(config, state, batch, behavior_key)
        state = state._replace(behavior=fitted.behavior)
    next_key, actor_key = jax.random.split(key)
    next_value = next_state_value(config, state, batch, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    critic, critic_metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target), config.critic_learning_rate
    )
    state = state._replace(critic=critic)
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, state, batch, actor_key),
        config.actor_learning_rate,
    )
    multiplier, multiplier_metrics = multiplier_step(
        config, state.multiplier, actor_metrics["actor/mmd"]
    )
    state = state._replace(
        step=state.step + 1,
        actor=actor,
        target_actor=polyak(state.target_actor, actor.params, config.target_update_rate),
        target_critic=polyak(state.target_critic, critic.params, config.target_update_rate),
        multiplier=multiplier,
    )
    return state, metrics | critic_metrics | actor_metrics | multiplier_metrics


def phases(config: BEARConfig, update: Callable) -> tuple[Phase, ...]:
    return Phase((behavior_update,), config.num_behavior_steps), Phase((update,))


def act(
    config: BEARConfig, state: BEARState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The sampled action of highest Q_1; without a key always from the same noise."""
    num, actor = config.num_action_samples, state.actor.params
    pre_tanh = sample_policy(config.actor_network, actor, observation, num_samples=num, key=key)
    action = jnp.tanh(pre_tanh)
    return best_action(action, q_values(config, state.critic.params, observation, action)[0])


def value(
    config: BEARConfig, state: BEARState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)


bear = Algorithm(
    name="bear",
    Config=BEARConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Kumar et al. 2019, arXiv:1906.00949",
    phases=phases,
    q_values=state_q_values,
)
