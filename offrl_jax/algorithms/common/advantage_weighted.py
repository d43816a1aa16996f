"""Actor-critics whose actor clones the data's actions, weighted by their advantage over the
policy's own: what AWAC, CRR and ABM share.

Source: Nair et al. 2020 (AWAC), arXiv:2006.09359; Wang et al. 2020 (CRR), arXiv:2006.15134.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from offrl_jax.algorithms.common.best_of_n import best_action, sample_noise
from offrl_jax.algorithms.common.critics import critic_loss, minimum_q
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import weighted_likelihood_loss
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.distributions import Gaussian, TanhGaussian
from offrl_jax.networks.modules import (
    gaussian_policy,
    init_critics,
    init_policy,
    init_tanh_mean_policy,
    tanh_mean_policy,
)
from offrl_jax.networks.optimizers import adam_step
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class AdvantageWeightedConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    policy: str = setting(
        "tanh_mean",
        "tanh_mean: Gaussian about tanh f(s), one σ for all states; tanh_gaussian: squashed "
        "Gaussian, its σ by state",
        choices=("tanh_mean", "tanh_gaussian"),
    )
    baseline: str = setting(
        "mean",
        "what Q(s, a) is compared with, over sampled actions of the policy; mode: at its mode",
        choices=("mean", "max", "mode"),
    )
    num_baseline_samples: int = setting(1, "m, actions of the baseline", low=1)
    num_target_actions: int = setting(1, "next actions that the target averages over", low=1)
    target_update_rate: float = setting(0.005, "Polyak rate of all targets", low=0, high=1)
    target_update_period: int = setting(
        1, "steps between two updates of the targets; with rate 1 they are copies", low=1
    )
    actor_learning_rate: float = setting(3e-4, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(3e-4, "Adam's step size for the critics", low=0)
    num_critics: int = setting(2, "E, critics whose minimum is used", low=1)
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), "actor's hidden layers", low=1)
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), "critics' hidden layers", low=1)
    batch_size: int = setting(256, "transitions a step", low=1)


class AdvantageWeightedState(NamedTuple):
    step: Int[Array, ""]
    actor: Any
    target_actor: Any  # whose next actions the TD target takes; None: the actor's
    critic: Any  # stacked over E
    target_critic: Any
    actor_optimizer: Any
    critic_optimizer: Any


def init(
    config: Any, spec: Spec, key: Key, *, has_target_actor: bool = False
) -> AdvantageWeightedState:
    """Fresh parameters, the targets equal to their networks."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_actor(config, spec, actor_key)
    critic = init_critics(config.critic_hidden_sizes, config.num_critics, spec, critic_key)
    return AdvantageWeightedState(
        step=jnp.int32(0),
        actor=actor,
        target_actor=actor if has_target_actor else None,
        critic=critic,
        target_critic=critic,
        actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
        critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
    )


def init_actor(config: Any, spec: Spec, key: Key) -> Any:
    """Parameters of a `policy_of`."""
    if config.policy == "tanh_mean":
        return init_tanh_mean_policy(config.actor_hidden_sizes, spec, key)
    sizes = spec.observation_size, 2 * spec.action_size
    return init_policy(config.actor_hidden_sizes, *sizes, key)


def policy_of(config: Any, actor: Any, observation: Float[Array, "B O"]) -> Gaussian | TanhGaussian:
    """π(·|s)."""
    if config.policy == "tanh_mean":
        return tanh_mean_policy(config.actor_hidden_sizes, actor, observation)
    return gaussian_policy(config.actor_hidden_sizes, actor, observation)


def sampled_q(
    config: Any,
    critic: Any,
    policy: Gaussian | TanhGaussian,
    observation: Float[Array, "B O"],
    num_samples: int,
    key: Key,
) -> Float[Array, "B N"]:
    """min_k Q_k(s, a_j) of N actions a_j ~ π(·|s)."""
    num_states, action_size = policy.mean.shape
    action = policy.actions(sample_noise(key, num_states, num_samples, action_size))
    return minimum_q(config, critic, observation, action)


def advantage(
    config: Any, state: AdvantageWeightedState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """A(s, a) = min_k Q_k(s, a) − V(s), with `baseline_value` for V.

    Source: Wang et al. 2020 (CRR), arXiv:2006.15134, eq. 3 to 5; Nair et al. 2020 (AWAC),
    arXiv:2006.09359, section 4, where m = 1.
    """
    policy = policy_of(config, state.actor, batch.observation)
    baseline = baseline_value(config, state.critic, policy, batch.observation, key)
    return minimum_q(config, state.critic, batch.observation, batch.action) - baseline


def baseline_value(
    config: Any,
    critic: Any,
    policy: Gaussian | TanhGaussian,
    observation: Float[Array, "B O"],
    key: Key,
) -> Float[Array, "B"]:
    """V(s) = mean_j or max_j min_k Q_k(s, a_j), a_j ~ π(·|s), or its value at the mode of π."""
    if config.baseline == "mode":
        return minimum_q(config, critic, observation, policy.mode())
    q = sampled_q(config, critic, policy, observation, config.num_baseline_samples, key)
    return jnp.mean(q, axis=1) if config.baseline == "mean" else jnp.max(q, axis=1)


def value_target(
    config: Any, state: AdvantageWeightedState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """y = r + γ (1 − d) mean_j min_k Q̄_k(s′, a′_j), a′_j ~ π(·|s′): no entropy."""
    actor = state.actor if state.target_actor is None else state.target_actor
    policy = policy_of(config, actor, batch.next_observation)
    q = sampled_q(
        config, state.target_critic, policy, batch.next_observation, config.num_target_actions, key
    )
    return td_target(batch.reward, batch.terminal, jnp.mean(q, axis=1), config.discount)


def actor_loss(
    actor: Any, batch: Transition, weight: Float[Array, "B"], config: Any
) -> Float[Array, ""]:
    """−mean_b w_b log π(a|s)."""
    policy = policy_of(config, actor, batch.observation)
    return weighted_likelihood_loss(weight, policy.log_prob(batch.action))


def update(
    config: Any,
    state: AdvantageWeightedState,
    batch: Transition,
    key: Key,
    weight_of: Callable,
) -> tuple[AdvantageWeightedState, Metrics]:
    """One step of critics and actor, both gradients at the same old parameters; then the targets.

    Args:
      config: The algorithm's.
      state: Before the step.
      batch: (B, ...).
      key: Of this step.
      weight_of: (config, advantage (B,)) -> weights (B,) of the data's actions.
    """
    target_key, advantage_key = jax.random.split(key)
    target = value_target(config, state, batch, target_key)
    critic_gradient, metrics = jax.grad(critic_loss, has_aux=True)(
        state.critic, batch, target, config
    )
    gain = advantage(config, state, batch, advantage_key)
    weight = weight_of(config, gain)
    loss, actor_gradient = jax.value_and_grad(actor_loss)(state.actor, batch, weight, config)
    metrics |= {
        "actor/loss": loss,
        "actor/advantage": jnp.mean(gain),
        "actor/weight": jnp.mean(weight),
    }
    return apply_gradients(config, state, actor_gradient, critic_gradient), metrics


def apply_gradients(
    config: Any, state: AdvantageWeightedState, actor_gradient: Any, critic_gradient: Any
) -> AdvantageWeightedState:
    """One Adam step each; every `target_update_period` steps the targets follow."""
    actor, actor_optimizer = adam_step(
        config.actor_learning_rate, actor_gradient, state.actor, state.actor_optimizer
    )
    critic, critic_optimizer = adam_step(
        config.critic_learning_rate, critic_gradient, state.critic, state.critic_optimizer
    )
    step = state.step + 1
    rate = jnp.where(step % config.target_update_period == 0, config.target_update_rate, 0.0)
    target_actor = state.target_actor
    return AdvantageWeightedState(
        step=step,
        actor=actor,
        target_actor=None if target_actor is None else polyak(target_actor, actor, rate),
        critic=critic,
        target_critic=polyak(state.target_critic, critic, rate),
        actor_optimizer=actor_optimizer,
        critic_optimizer=critic_optimizer,
    )


def act(
    config: Any,
    state: AdvantageWeightedState,
    observation: Float[Array, "B O"],
    key: Key | None,
) -> Float[Array, "B A"]:
    """The policy's mode, or a sample of it."""
    policy = policy_of(config, state.actor, observation)
    return policy.mode() if key is None else policy.sample(key)


def critic_weighted_act(
    config: Any,
    state: AdvantageWeightedState,
    observation: Float[Array, "B O"],
    key: Key | None,
) -> Float[Array, "B A"]:
    """One of `num_action_samples` actions of the policy, drawn with probability ∝ e^{Q}; without a
    key that of the largest Q. `act` where that number is 1.

    Source: Wang et al. 2020 (CRR), arXiv:2006.15134, section 3.3 (CWP).
    """
    if config.num_action_samples == 1:
        return act(config, state, observation, key)
    noise_key, choice_key = (None, None) if key is None else jax.random.split(key)
    policy = policy_of(config, state.actor, observation)
    shape = observation.shape[0], config.num_action_samples, policy.mean.shape[-1]
    action = policy.actions(sample_noise(noise_key, *shape))
    q = minimum_q(config, state.critic, observation, action)
    if key is not None:
        q = q + jax.random.gumbel(choice_key, q.shape)
    return best_action(action, q)


def value(
    config: Any, state: AdvantageWeightedState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s)) at the policy's mode."""
    return minimum_q(config, state.critic, observation, act(config, state, observation, None))
