"""Actor-critics whose actor clones the data's actions, weighted by their advantage over the
policy's own: what AWAC, CRR and ABM share.

Source: Nair et al. 2020 (AWAC), arXiv:2006.09359; Wang et al. 2020 (CRR), arXiv:2006.15134.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.best_of_n import best_action, sample_noise
from offrl_jax.algorithms.common.critics import critic_loss, minimum_q
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import weighted_likelihood_loss
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.distributions import Gaussian, TanhGaussian
from offrl_jax.networks.heads import (
    gaussian_policy,
    init_critics,
    init_policy,
    init_tanh_mean_policy,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.networks.values import network_setting
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
    actor_network: nn.Module = network_setting(MLP(), "actor's network")
    critic_network: nn.Module = network_setting(MLP(), "network of each critic")
    batch_size: int = setting(256, "transitions a step", low=1)


class AdvantageWeightedState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    target_actor: Any  # whose next actions the TD target takes; None: the actor's
    critic: Trainable  # stacked over E
    target_critic: Any


def init(
    config: Any, spec: Spec, key: Key, *, has_target_actor: bool = False
) -> AdvantageWeightedState:
    """Fresh parameters, the targets equal to their networks."""
    actor_key, critic_key = jax.random.split(key)
    actor = init_actor(config, spec, actor_key)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    return AdvantageWeightedState(
        step=jnp.int32(0),
        actor=Trainable.create(actor),
        target_actor=actor if has_target_actor else None,
        critic=Trainable.create(critic),
        target_critic=critic,
    )


def init_actor(config: Any, spec: Spec, key: Key) -> Any:
    """Parameters of a `policy_of`."""
    if config.policy == "tanh_mean":
        return init_tanh_mean_policy(config.actor_network, spec, key)
    return init_policy(config.actor_network, 2 * spec.action_size, spec, key)


def policy_of(config: Any, actor: Any, observation: Float[Array, "B O"]) -> Gaussian | TanhGaussian:
    """π(·|s)."""
    family = {"tanh_mean": tanh_mean_policy, "tanh_gaussian": gaussian_policy}[config.policy]
    return family(config.actor_network, actor, observation)


def sampled_actions(
    policy: Gaussian | TanhGaussian, num_samples: int, key: Key | None
) -> Float[Array, "B N A"]:
    """N actions a_j ~ π(·|s) for each state. Without a key, all states share the same noise."""
    num_states, action_size = policy.mean.shape
    return policy.actions(sample_noise(key, num_states, num_samples, action_size))


def advantage(
    config: Any, state: AdvantageWeightedState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """A(s, a) = min_k Q_k(s, a) − V(s), with `baseline_value` for V.

    Source: Wang et al. 2020 (CRR), arXiv:2006.15134, eq. 3 to 5; Nair et al. 2020 (AWAC),
    arXiv:2006.09359, section 4, where m = 1.
    """
    critic = state.critic.params
    policy = policy_of(config, state.actor.params, batch.observation)
    baseline = baseline_value(config, critic, batch.observation, policy=policy, key=key)
    return minimum_q(config, critic, batch.observation, batch.action) - baseline


def baseline_value(
    config: Any,
    critic: Any,
    observation: Float[Array, "B O"],
    *,
    policy: Gaussian | TanhGaussian,
    key: Key,
) -> Float[Array, "B"]:
    """V(s) = mean_j or max_j min_k Q_k(s, a_j), a_j ~ π(·|s), or its value at the mode of π."""
    if config.baseline == "mode":
        return minimum_q(config, critic, observation, policy.mode())
    action = sampled_actions(policy, config.num_baseline_samples, key)
    q = minimum_q(config, critic, observation, action)
    return jnp.mean(q, axis=1) if config.baseline == "mean" else jnp.max(q, axis=1)


def value_target(
    config: Any, state: AdvantageWeightedState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """y = r + γ (1 − d) mean_j min_k Q̄_k(s′, a′_j), a′_j ~ π(·|s′): no entropy."""
    actor = state.actor.params if state.target_actor is None else state.target_actor
    policy = policy_of(config, actor, batch.next_observation)
    action = sampled_actions(policy, config.num_target_actions, key)
    q = minimum_q(config, state.target_critic, batch.next_observation, action)
    return td_target(batch.reward, batch.terminal, jnp.mean(q, axis=1), config.discount)


def actor_loss(
    config: Any, actor: Any, batch: Transition, weight: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b w_b log π(a|s)."""
    policy = policy_of(config, actor, batch.observation)
    loss = weighted_likelihood_loss(weight, policy.log_prob(batch.action))
    return loss, {"actor/loss": loss, "actor/weight": jnp.mean(weight)}


def update(
    config: Any, state: AdvantageWeightedState, batch: Transition, key: Key, weight_of: Callable
) -> tuple[AdvantageWeightedState, Metrics]:
    """One step of critics and actor from the same old parameters; then the targets follow.
    `weight_of(config, advantage)` returns the weights (B,) of the dataset's actions."""
    target_key, advantage_key = jax.random.split(key)
    target = value_target(config, state, batch, target_key)
    gain = advantage(config, state, batch, advantage_key)
    weight = weight_of(config, gain)
    critic, critic_metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target), config.critic_learning_rate
    )
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch, weight), config.actor_learning_rate
    )
    metrics = critic_metrics | actor_metrics | {"actor/advantage": jnp.mean(gain)}
    return update_targets(config, state, actor, critic), metrics


def update_targets(
    config: Any, state: AdvantageWeightedState, actor: Trainable, critic: Trainable
) -> AdvantageWeightedState:
    """The state with the new actor and critics. Every `target_update_period` steps the targets
    follow them."""
    step, target_actor = state.step + 1, state.target_actor
    rate = jnp.where(step % config.target_update_period == 0, config.target_update_rate, 0.0)
    if target_actor is not None:
        target_actor = polyak(target_actor, actor.params, rate)
    target_critic = polyak(state.target_critic, critic.params, rate)
    return AdvantageWeightedState(step, actor, target_actor, critic, target_critic)


def act(
    config: Any, state: AdvantageWeightedState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """The policy's mode, or a sample of it."""
    policy = policy_of(config, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample(key)


def critic_weighted_act(
    config: Any, state: AdvantageWeightedState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    """One of `num_action_samples` actions of the policy, drawn with probability ∝ e^{Q}; without a
    key that of the largest Q. `act` where that number is 1.

    Source: Wang et al. 2020 (CRR), arXiv:2006.15134, section 3.3 (CWP).
    """
    if config.num_action_samples == 1:
        return act(config, state, observation, key)
    noise_key, choice_key = (None, None) if key is None else jax.random.split(key)
    policy = policy_of(config, state.actor.params, observation)
    action = sampled_actions(policy, config.num_action_samples, noise_key)
    q = minimum_q(config, state.critic.params, observation, action)
    if key is not None:
        q = q + jax.random.gumbel(choice_key, q.shape)
    return best_action(action, q)


def value(
    config: Any, state: AdvantageWeightedState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s)) at the policy's mode."""
    action = act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)
