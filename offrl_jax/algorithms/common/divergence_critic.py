"""A critic c(s, a) that tells actions of the policy π from those of the dataset, and the dual
estimate of the divergence between π and the behaviour policy β that it gives.

Source: Wu et al. 2019, arXiv:1911.11361, section 4.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.losses.divergences import DUAL_DIVERGENCES, dual_estimate, gradient_penalty
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import init_outputs, outputs
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

DUAL = {"dual_kl" if name == "kl" else name: name for name in DUAL_DIVERGENCES}


def init(config: Any, spec: Spec, key: Key) -> Trainable:
    """Initial parameters of c."""
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    return Trainable.create(init_outputs(config.critic_network, 1, key, observation, action))


def value(
    config: Any, critic: Any, observation: Float[Array, "B O"], action: Float[Array, "B A"]
) -> Float[Array, "B"]:
    """c(s, a)."""
    return outputs(config.critic_network, critic, observation, action)[..., 0]


def estimate(
    config: Any, critic: Any, batch: Transition, policy_action: Float[Array, "B A"]
) -> Float[Array, "B"]:
    """Estimates D(π, β)(s) from one action of π and one of the dataset; the mean over s is D."""
    c = partial(value, config, critic, batch.observation)
    return dual_estimate(DUAL[config.divergence], c(policy_action), c(batch.action))


def loss(
    config: Any, critic: Any, policy: TanhGaussian, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b D(π, β)(s) + w · gradient penalty. Its minimum makes the dual bound tight.

    Source: Wu et al. 2019, arXiv:1911.11361, section 4; weight and form of the penalty as in the
    authors' code.
    """
    action_key, mix_key = jax.random.split(key)
    action, _ = policy.sample_and_log_prob(action_key)
    mix = jax.random.uniform(mix_key, action.shape[:1])
    c = partial(value, config, critic, batch.observation)
    penalty = gradient_penalty(c, action, batch.action, mix)
    distance = jnp.mean(estimate(config, critic, batch, action))
    loss = config.gradient_penalty_weight * penalty - distance
    return loss, {"divergence_critic/loss": loss}


def steps(
    config: Any, critic: Trainable, policy: TanhGaussian, batch: Transition, key: Key
) -> tuple[Trainable, Metrics]:
    """Takes `config.num_divergence_critic_steps` steps on `loss`, with one policy and batch."""
    for step_key in jax.random.split(key, config.num_divergence_critic_steps):
        critic, metrics = critic.minimize(
            lambda critic, key=step_key: loss(config, critic, policy, batch, key),
            config.divergence_critic_learning_rate,
        )
    return critic, metrics
