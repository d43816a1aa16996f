"""BEAR: an actor that maximises Q while its actions' MMD to a model of the data stays below ε.

Citation: Kumar et al. 2019, arXiv:1906.00949.
Update order: behaviour model → critics → actor → multiplier → targets.
Checked against: the authors' code (aviralkumar2907/BEAR at f2e31c1), without its optional ensemble
variance; default learning rates, sizes and samples of their rlkit version for D4RL (ac45a9d).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.behavior import (
    LATENT_LIMIT,
    MMDConfig,
    cvae_loss,
    fit_behavior,
    init_cvae,
    likelihood_loss,
    mmd_penalty,
    sample_cvae,
)
from offrl_jax.algorithms.common.best_of_n import best_action, best_action_value, sample_noise
from offrl_jax.algorithms.common.critics import critic_step, minimum_q, state_q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.modules import critic_values, gaussian_policy, init_critics, init_policy
from offrl_jax.networks.optimizers import adam_step
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
    behavior_hidden_sizes: tuple[int, ...] = setting((750, 750), "model's hidden layers", low=1)
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), "critics' hidden layers", low=1)
    batch_size: int = setting(256, "transitions a step", low=1)


class BEARState(NamedTuple):
    step: Int[Array, ""]
    behavior: Any
    actor: Any
    target_actor: Any
    critic: Any  # stacked over E
    target_critic: Any
    log_multiplier: Float[Array, ""]
    behavior_optimizer: Any
    actor_optimizer: Any
    critic_optimizer: Any
    multiplier_optimizer: Any


def init(config: BEARConfig, spec: Spec, key: Key) -> BEARState:
    behavior_key, actor_key, critic_key = jax.random.split(key, 3)
    sizes = spec.observation_size, 2 * spec.action_size
    if config.behavior == "cvae":
        behavior = init_cvae(config.behavior_hidden_sizes, spec, behavior_key)
    else:
        behavior = init_policy(config.behavior_hidden_sizes, *sizes, behavior_key)
    actor = init_policy(config.actor_hidden_sizes, *sizes, actor_key)
    critic = init_critics(config.critic_hidden_sizes, config.num_critics, spec, critic_key)
    log_multiplier = jnp.float32(config.initial_log_multiplier)
    return BEARState(
        step=jnp.int32(0),
        behavior=behavior,
        actor=actor,
        target_actor=actor,
        critic=critic,
        target_critic=critic,
        log_multiplier=log_multiplier,
        behavior_optimizer=optax.adam(config.behavior_learning_rate).init(behavior),
        actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
        critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
        multiplier_optimizer=optax.adam(config.multiplier_learning_rate).init(log_multiplier),
    )


def sample_policy(
    hidden_sizes: tuple[int, ...],
    params: Any,
    observation: Float[Array, "B O"],
    num_samples: int,
    key: Key | None,
) -> Float[Array, "B N A"]:
    """u = μ(s) + σ(s) clip(ε, −½, ½) of N actions tanh u of a Gaussian policy."""
    policy = gaussian_policy(hidden_sizes, params, observation)
    noise = sample_noise(key, *observation.shape[:1], num_samples, policy.mean.shape[-1])
    return policy.pre_tanh(jnp.clip(noise, -LATENT_LIMIT, LATENT_LIMIT))


def sample_behavior(
    config: BEARConfig, behavior: Any, observation: Float[Array, "B O"], key: Key
) -> Float[Array, "B N A"]:
    """u of actions tanh u of the behaviour model, its noise clipped like the actor's."""
    sample = sample_cvae if config.behavior == "cvae" else sample_policy
    return sample(config.behavior_hidden_sizes, behavior, observation, config.num_mmd_samples, key)


def next_state_value(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """V̄(s′): `best_action_value` of the target critics and the target actor."""
    num, observation = config.num_target_actions, batch.next_observation
    hidden_sizes = config.actor_hidden_sizes
    action = jnp.tanh(sample_policy(hidden_sizes, state.target_actor, observation, num, key))
    return best_action_value(config, state.target_critic, observation, action)


def actor_loss(
    actor: Any, state: BEARState, batch: Transition, key: Key, config: BEARConfig
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """mean_b [ −min_k mean_j Q_k(s, a_j) + α MMD(π, β)(s) ], the second term alone in the warm-up.

    Returns the loss and the mean MMD.

    Source: Kumar et al. 2019, arXiv:1906.00949, eq. 4, as a Lagrangian.
    Departs from the paper: the mean over actions is inside the minimum, as in the authors' code.
    """
    policy_key, behavior_key = jax.random.split(key)
    pre_tanh = sample_policy(
        config.actor_hidden_sizes, actor, batch.observation, config.num_mmd_samples, policy_key
    )
    behavior = sample_behavior(config, state.behavior, batch.observation, behavior_key)
    mmd = mmd_penalty(config, pre_tanh, behavior)
    q = critic_values(
        config.critic_hidden_sizes, state.critic, batch.observation, jnp.tanh(pre_tanh)
    )
    q = jnp.min(jnp.mean(q, axis=2), axis=0)
    started = state.step >= config.num_behavior_steps + config.num_warmup_steps
    loss = jnp.mean(jnp.exp(state.log_multiplier) * mmd - started * q)
    return loss, jnp.mean(mmd)


def multiplier_loss(
    log_multiplier: Float[Array, ""], mmd: Float[Array, ""], threshold: Float[Array, ""] | float
) -> Float[Array, ""]:
    """−α ( MMD − ε ), whose descent is the ascent of the dual: α rises while MMD > ε."""
    return -jnp.exp(log_multiplier) * (mmd - threshold)


def behavior_loss(
    behavior: Any, batch: Transition, key: Key, config: BEARConfig
) -> tuple[Float[Array, ""], Metrics]:
    """The CVAE's loss, or the Gaussian's negative log-likelihood."""
    if config.behavior == "cvae":
        return cvae_loss(behavior, batch, key, config.behavior_hidden_sizes)
    policy = gaussian_policy(config.behavior_hidden_sizes, behavior, batch.observation)
    loss = likelihood_loss(policy, batch.action)
    return loss, {"behavior/loss": loss}


def behavior_update(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> tuple[BEARState, Metrics]:
    """A step of the behaviour model alone."""
    state, metrics = fit_behavior(config, state, batch, key, behavior_loss)
    return state._replace(step=state.step + 1), metrics


def constrained_update(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> tuple[BEARState, Metrics]:
    """A step of critics, actor, multiplier and targets, the behaviour model as it is."""
    next_key, actor_key = jax.random.split(key)
    next_value = next_state_value(config, state, batch, next_key)
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    state, metrics = critic_step(config, state, batch, target)
    (loss, mmd), gradient = jax.value_and_grad(actor_loss, has_aux=True)(
        state.actor, state, batch, actor_key, config
    )
    actor, actor_optimizer = adam_step(
        config.actor_learning_rate, gradient, state.actor, state.actor_optimizer
    )
    gradient = jax.grad(multiplier_loss)(state.log_multiplier, mmd, config.mmd_threshold)
    log_multiplier, multiplier_optimizer = adam_step(
        config.multiplier_learning_rate, gradient, state.log_multiplier, state.multiplier_optimizer
    )
    low, high = LOG_MULTIPLIER_RANGE
    log_multiplier = jnp.clip(log_multiplier, low, high)
    rate = config.target_update_rate
    state = state._replace(
        step=state.step + 1,
        actor=actor,
        actor_optimizer=actor_optimizer,
        log_multiplier=log_multiplier,
        multiplier_optimizer=multiplier_optimizer,
        target_actor=polyak(state.target_actor, actor, rate),
        target_critic=polyak(state.target_critic, state.critic, rate),
    )
    at_clip = (log_multiplier <= low) | (log_multiplier >= high)
    return state, metrics | {
        "actor/loss": loss,
        "actor/mmd": mmd,
        "actor/multiplier": jnp.exp(log_multiplier),
        "actor/multiplier_at_clip": at_clip.astype(jnp.float32),
    }


def update(
    config: BEARConfig, state: BEARState, batch: Transition, key: Key
) -> tuple[BEARState, Metrics]:
    """A step of everything, and of the behaviour model first unless a phase of its own fits it."""
    behavior_metrics = {}
    if config.num_behavior_steps == 0:
        behavior_key, key = jax.random.split(key)
        state, behavior_metrics = fit_behavior(config, state, batch, behavior_key, behavior_loss)
    state, metrics = constrained_update(config, state, batch, key)
    return state, behavior_metrics | metrics


def phases(config: BEARConfig, update: Callable) -> tuple[Phase, ...]:
    return Phase((behavior_update,), config.num_behavior_steps), Phase((update,))


def act(
    config: BEARConfig, state: BEARState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The sampled action of highest Q_1; without a key always from the same noise."""
    num = config.num_action_samples
    action = jnp.tanh(sample_policy(config.actor_hidden_sizes, state.actor, observation, num, key))
    q = critic_values(config.critic_hidden_sizes, state.critic, observation, action)
    return best_action(action, q[0])


def value(
    config: BEARConfig, state: BEARState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic, observation, action)


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
