"""Models of the policy β that recorded the data, and the sampled distance of a policy from it.

Two models: a conditional variational auto-encoder (BCQ, BEAR) and a tanh-Gaussian (BRAC).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.best_of_n import sample_noise
from offrl_jax.config import config, setting
from offrl_jax.losses.divergences import SIGMA_SCALE, mmd_squared, root
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import init_outputs, outputs
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

LATENTS_PER_ACTION = 2
LATENT_LIMIT = 0.5  # samples keep to the middle of the prior, where the decoder is best trained
LATENT_LOG_STD_RANGE = (-4.0, 15.0)


def init_cvae(network: nn.Module, spec: Spec, key: Key) -> Any:
    """Parameters of the encoder (s, a) → z and the decoder (s, z) → a, with 2A latents."""
    encoder_key, decoder_key = jax.random.split(key)
    latent_size = LATENTS_PER_ACTION * spec.action_size
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    latent = jnp.zeros((1, latent_size))
    return {
        "encoder": init_outputs(network, 2 * latent_size, encoder_key, observation, action),
        "decoder": init_outputs(network, spec.action_size, decoder_key, observation, latent),
    }


def decode(
    network: nn.Module, cvae: Any, observation: Float[Array, "B O"], latent: Float[Array, "... L"]
) -> Float[Array, "B ... A"]:
    """u of an action tanh u, for latents (B, L) or (B, N, L), or (1, N, L) shared by all states."""
    latent = jnp.broadcast_to(latent, (observation.shape[0], *latent.shape[1:]))
    return outputs(network, cvae["decoder"], observation, latent)


def sample_cvae(
    network: nn.Module,
    cvae: Any,
    observation: Float[Array, "B O"],
    *,
    num_samples: int,
    key: Key | None,
) -> Float[Array, "B N A"]:
    """u of N actions tanh u ~ β(·|s), from latents N(0, 1) clipped to ±½.

    Without a key the latents are the same for every state and call.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900; the clip as in the authors' code.
    """
    latent_size = LATENTS_PER_ACTION * cvae["decoder"]["head"]["bias"].shape[-1]
    noise = sample_noise(key, observation.shape[0], num_samples, latent_size)
    latent = jnp.clip(noise, -LATENT_LIMIT, LATENT_LIMIT)
    return decode(network, cvae, observation, latent)


def cvae_loss(
    config: Any, cvae: Any, batch: Transition, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """mean (â − a)² + ½ mean KL( N(m, σ²) ‖ N(0, 1) ),   z = m + σ ε,   â = tanh decoder(s, z).

    Both means are over batch and dimensions.

    Source: Fujimoto et al. 2019 (BCQ), arXiv:1812.02900, eq. 27, with the weights of the authors'
    code.
    """
    network = config.behavior_network
    encoded = outputs(network, cvae["encoder"], batch.observation, batch.action)
    mean, log_std = jnp.split(encoded, 2, axis=-1)
    log_std = jnp.clip(log_std, *LATENT_LOG_STD_RANGE)
    latent = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    action = jnp.tanh(decode(network, cvae, batch.observation, latent))
    reconstruction = jnp.mean(jnp.square(action - batch.action))
    kl = jnp.mean(0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std)
    loss = reconstruction + 0.5 * kl
    return loss, {"behavior/loss": loss, "behavior/reconstruction": reconstruction}


def likelihood_loss(policy: TanhGaussian, action: Float[Array, "B A"]) -> Float[Array, ""]:
    """−mean_b log π(a|s): maximum likelihood of the data's actions."""
    return -jnp.mean(policy.log_prob(action))


@config
class MMDConfig:
    """How `mmd_penalty` is taken."""

    mmd_kernel: str = setting("laplacian", "kernel of the MMD", choices=("laplacian", "gaussian"))
    mmd_sigma: float = setting(20.0, "σ of the kernel, under mmd_sigma_convention", low=1e-6)
    mmd_sigma_convention: str = setting(
        "bear", "bear: exp(−distance / 2σ); brac: exp(−distance / σ)", choices=("bear", "brac")
    )
    mmd_unbiased: bool = setting(
        False, "leave out each sample's distance to itself, which biases MMD² upwards"
    )
    mmd_root: bool = setting(True, "sqrt(MMD² + 1e-6) rather than MMD²")
    mmd_pre_tanh: bool = setting(True, "compare actions before their tanh rather than after it")
    num_mmd_samples: int = setting(4, "actions of each policy in the MMD", low=2)


def mmd_penalty(
    config: Any, policy: Float[Array, "B N A"], behavior: Float[Array, "B M A"]
) -> Float[Array, "B"]:
    """MMD between sampled actions of π and β at each state, as `MMDConfig` says.

    Args:
      config: Has the fields of `MMDConfig`.
      policy: Samples of π before their tanh.
      behavior: Samples of β before their tanh.

    Source: Kumar et al. 2019 (BEAR), arXiv:1906.00949, section 5; Wu et al. 2019 (BRAC),
    arXiv:1911.11361.
    """
    if not config.mmd_pre_tanh:
        policy, behavior = jnp.tanh(policy), jnp.tanh(behavior)
    squared = mmd_squared(
        policy,
        behavior,
        kernel=config.mmd_kernel,
        scale=SIGMA_SCALE[config.mmd_sigma_convention] * config.mmd_sigma,
        unbiased=config.mmd_unbiased,
    )
    return root(squared) if config.mmd_root else squared
