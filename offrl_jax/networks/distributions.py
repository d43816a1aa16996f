"""Policy distributions: sampling, log-densities and modes of actions in [−1, 1] or one-hot."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.types import Array, Float, Int, Key

# Dataset actions at ±1 have infinite pre-images; the density is taken just inside (JaxCQL, BRAC).
ACTION_LIMIT = 0.999


class TanhGaussian(NamedTuple):
    """a = tanh(u), u ~ N(mean, diag(exp(log_std))²).

    log π(a) = Σ_j [ log N(u_j) − log(1 − tanh² u_j) ]

    Source: Haarnoja et al. 2018, arXiv:1801.01290, appendix C, with the Jacobian in the stable
    form log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)).
    """

    mean: Float[Array, "*B A"]
    log_std: Float[Array, "*B A"]

    def mode(self) -> Float[Array, "*B A"]:
        """tanh of the mean: the Gaussian's mode carried over, which evaluation acts with."""
        return jnp.tanh(self.mean)

    def pre_tanh(self, noise: Float[Array, "... N A"]) -> Float[Array, "*B N A"]:
        """u = mean + std · noise, of actions tanh u, for N standard normals a state."""
        mean, log_std = jnp.expand_dims(self.mean, -2), jnp.expand_dims(self.log_std, -2)
        return mean + jnp.exp(log_std) * noise

    def actions(self, noise: Float[Array, "... N A"]) -> Float[Array, "*B N A"]:
        """tanh of `pre_tanh`."""
        return jnp.tanh(self.pre_tanh(noise))

    def sample(self, key: Key) -> Float[Array, "*B A"]:
        return self.actions(_one_noise(key, self.mean))[..., 0, :]

    def sample_and_log_prob(
        self, key: Key, num_samples: int | None = None
    ) -> tuple[Float[Array, "... A"], Float[Array, "..."]]:
        """Reparameterised samples, (B, A), or (B, N, A) with `num_samples`, and their densities."""
        mean, log_std = self.mean, self.log_std
        if num_samples is not None:
            mean, log_std = (
                jnp.repeat(jnp.expand_dims(x, -2), num_samples, -2) for x in (mean, log_std)
            )
        noise = jax.random.normal(key, mean.shape)
        pre_tanh = mean + jnp.exp(log_std) * noise
        return jnp.tanh(pre_tanh), _log_density(pre_tanh, noise, log_std)

    def log_prob(self, action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Log-density of given actions, those beyond ±0.999 taken at ±0.999."""
        inside = jnp.clip(action.astype(jnp.float32), -ACTION_LIMIT, ACTION_LIMIT)
        pre_tanh = jnp.arctanh(inside)  # in bfloat16 the limit would round to 1
        noise = (pre_tanh - self.mean) * jnp.exp(-self.log_std)
        return _log_density(pre_tanh, noise, self.log_std)


def _one_noise(key: Key, mean: Array) -> Array:
    return jax.random.normal(key, (*mean.shape[:-1], 1, mean.shape[-1]))


def _log_density(pre_tanh: Array, noise: Array, log_std: Array) -> Array:
    gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_jacobian = 2.0 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    return jnp.sum(gaussian - log_jacobian, axis=-1)


class Gaussian(NamedTuple):
    """N(mean, diag(exp(log_std))²), not squashed: densities at the actions' bounds stay finite, and
    samples beyond them are clipped."""

    mean: Float[Array, "*B A"]  # in [−1, 1]
    log_std: Float[Array, "*B A"]

    def mode(self) -> Float[Array, "*B A"]:
        return self.mean

    def actions(self, noise: Float[Array, "... N A"]) -> Float[Array, "*B N A"]:
        """mean + std · noise, clipped to [−1, 1], for N standard normals a state."""
        mean, log_std = jnp.expand_dims(self.mean, -2), jnp.expand_dims(self.log_std, -2)
        return jnp.clip(mean + jnp.exp(log_std) * noise, -1.0, 1.0)

    def sample(self, key: Key) -> Float[Array, "*B A"]:
        return self.actions(_one_noise(key, self.mean))[..., 0, :]

    def log_prob(self, action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Σ_j log N(a_j; mean_j, std_j²)."""
        noise = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * jnp.square(noise) - self.log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


class Categorical(NamedTuple):
    """π(a|s) = softmax(logits)_a over A discrete actions, each a one-hot row."""

    logits: Float[Array, "*B A"]

    def mode(self) -> Float[Array, "*B A"]:
        return self._one_hot(jnp.argmax(self.logits, axis=-1))

    def sample(self, key: Key) -> Float[Array, "*B A"]:
        return self._one_hot(jax.random.categorical(key, self.logits))

    def log_prob(self, action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """log π(a|s) of one-hot actions."""
        return jnp.sum(jax.nn.log_softmax(self.logits) * action, axis=-1)

    def _one_hot(self, index: Int[Array, "*B"]) -> Float[Array, "*B A"]:
        return jax.nn.one_hot(index, self.logits.shape[-1])
