"""Networks as flax.linen modules; every algorithm builds on these few."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from offrl_jax.devices import BFLOAT16
from offrl_jax.networks.distributions import Categorical, Gaussian, TanhGaussian
from offrl_jax.types import Array, Float, Key, Spec

# U(±1/√fan_in), PyTorch's default and so the one behind most published offline-RL results.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

LOG_STD_RANGE = (-5.0, 2.0)  # EDAC, IQL


def layer_type() -> Any:
    """The type that hidden layers compute in: bfloat16 where `jax.default_matmul_precision` is
    `BFLOAT16`, which XLA itself ignores on CPUs; None, the type of their inputs, otherwise.
    Parameters and a network's outputs are float32 either way."""
    return jnp.bfloat16 if jax.config.jax_default_matmul_precision == BFLOAT16 else None


class MLP(nn.Module):
    """ReLU layers, each followed by a LayerNorm and a dropout if asked for, and a linear head.

    Only calls with a key drop units out.
    """

    hidden_sizes: Sequence[int]
    output_size: int
    layer_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"], key: Key | None = None) -> Float[Array, "*B F"]:
        for i, size in enumerate(self.hidden_sizes):
            x = nn.relu(nn.Dense(size, kernel_init=kernel_init, dtype=layer_type())(x))
            x = nn.LayerNorm()(x) if self.layer_norm else x
            if self.dropout and key is not None:
                layer_key = jax.random.fold_in(key, i)
                x = nn.Dropout(self.dropout)(x, deterministic=False, rng=layer_key)
        return nn.Dense(self.output_size, kernel_init=kernel_init, name="head")(x)


class StateActionMLP(nn.Module):
    """An MLP of (s, a), for one action a state (B, A) or several (B, N, A).

    With several actions the first layer is the sum of a state part, computed once a state, and an
    action part; its parameters are those of a layer on [s, a].
    """

    hidden_sizes: Sequence[int]
    output_size: int
    layer_norm: bool = False

    @nn.compact
    def __call__(
        self, observation: Float[Array, "*B O"], action: Float[Array, "... A"]
    ) -> Float[Array, "... F"]:
        width = observation.shape[-1]
        kernel = self.param("kernel", kernel_init, (width + action.shape[-1], self.hidden_sizes[0]))
        bias = self.param("bias", nn.initializers.zeros, (self.hidden_sizes[0],))
        observation, action, kernel, bias = promote_dtype(
            observation, action, kernel, bias, dtype=layer_type()
        )
        if action.ndim == observation.ndim:
            x = jnp.concatenate([observation, action], axis=-1) @ kernel
        else:
            state_part = observation @ kernel[:width]
            x = jnp.expand_dims(state_part, -2) + action @ kernel[width:]
        x = nn.relu(x + _row(bias, x.ndim))
        x = nn.LayerNorm()(x) if self.layer_norm else x
        return MLP(self.hidden_sizes[1:], self.output_size, self.layer_norm)(x)


def init_critics(
    hidden_sizes: Sequence[int], size: int, spec: Spec, key: Key, *, layer_norm: bool = False
) -> Any:
    """Stacked parameters of E = `size` independent critics."""
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    return _critics(hidden_sizes, size, layer_norm).init(key, observation, action)


def critic_values(
    hidden_sizes: Sequence[int],
    params: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
    *,
    layer_norm: bool = False,
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of every critic, for one action a state or several."""
    size = params["params"]["bias"].shape[0]
    return _critics(hidden_sizes, size, layer_norm).apply(params, observation, action)[..., 0]


def first(critic: Any) -> Any:
    """The parameters of Q_1 alone, an ensemble of one."""
    return jax.tree.map(lambda x: x[:1], critic)


def _critics(hidden_sizes: Sequence[int], size: int, layer_norm: bool) -> nn.Module:
    ensemble = nn.vmap(
        StateActionMLP,
        in_axes=None,
        out_axes=0,
        axis_size=size,
        variable_axes={"params": 0},
        split_rngs={"params": True},
    )
    return ensemble(tuple(hidden_sizes), 1, layer_norm)


def init_policy(
    hidden_sizes: Sequence[int], observation_size: int, output_size: int, key: Key
) -> Any:
    """Parameters of a policy network whose head has `output_size` numbers."""
    return MLP(hidden_sizes, output_size).init(key, jnp.zeros((1, observation_size)))


def gaussian_policy(
    hidden_sizes: Sequence[int],
    params: Any,
    observation: Float[Array, "*B O"],
    log_std_range: tuple[float, float] = LOG_STD_RANGE,
) -> TanhGaussian:
    """π(·|s), a tanh-Gaussian; the head gives the means, then the log standard deviations."""
    mean, log_std = jnp.split(_apply_policy(hidden_sizes, params, observation), 2, axis=-1)
    return TanhGaussian(mean, jnp.clip(log_std, *log_std_range))


def categorical_policy(
    hidden_sizes: Sequence[int],
    params: Any,
    observation: Float[Array, "*B O"],
    *,
    dropout: float = 0.0,
    key: Key | None = None,
) -> Categorical:
    """π(·|s) over discrete actions; `dropout` and `key` as in `tanh_mean_policy`."""
    network = MLP(hidden_sizes, _output_size(params), dropout=dropout)
    return Categorical(network.apply(params, observation, key))


def deterministic_policy(
    hidden_sizes: Sequence[int], params: Any, observation: Float[Array, "*B O"]
) -> Float[Array, "*B A"]:
    """π(s) in (−1, 1)."""
    return jnp.tanh(_apply_policy(hidden_sizes, params, observation))


def init_tanh_mean_policy(hidden_sizes: Sequence[int], spec: Spec, key: Key) -> Any:
    """Parameters of a `tanh_mean_policy`, its standard deviations 1."""
    mean = init_policy(hidden_sizes, spec.observation_size, spec.action_size, key)
    return {"mean": mean, "log_std": jnp.zeros(spec.action_size)}


def tanh_mean_policy(
    hidden_sizes: Sequence[int],
    params: Any,
    observation: Float[Array, "B O"],
    *,
    dropout: float = 0.0,
    key: Key | None = None,
) -> Gaussian:
    """π(·|s) = N(tanh f(s), σ²) with one σ for all states: the policy of IQL and AWAC.

    Args:
      hidden_sizes: Of f.
      params: From `init_tanh_mean_policy`.
      observation: States s.
      dropout: Share of the hidden units dropped where there is a key.
      key: For the dropout; None in evaluation.
    """
    output_size = params["log_std"].shape[-1]
    network = MLP(hidden_sizes, output_size, dropout=dropout)
    mean = jnp.tanh(network.apply(params["mean"], observation, key))
    log_std = jnp.clip(params["log_std"], *LOG_STD_RANGE)
    return Gaussian(mean, jnp.broadcast_to(_row(log_std, mean.ndim), mean.shape))


def init_value(hidden_sizes: Sequence[int], spec: Spec, key: Key) -> Any:
    """Parameters of V."""
    return MLP(hidden_sizes, 1).init(key, jnp.zeros((1, spec.observation_size)))


def state_value(
    hidden_sizes: Sequence[int],
    params: Any,
    observation: Float[Array, "B O"],
    *,
    dropout: float = 0.0,
    key: Key | None = None,
) -> Float[Array, "B"]:
    """V(s); `dropout` and `key` as in `tanh_mean_policy`."""
    return MLP(hidden_sizes, 1, dropout=dropout).apply(params, observation, key)[..., 0]


def _apply_policy(hidden_sizes: Sequence[int], params: Any, observation: Array) -> Array:
    return MLP(hidden_sizes, _output_size(params)).apply(params, observation)


def _output_size(params: Any) -> int:
    return params["params"]["head"]["bias"].shape[-1]


def _row(vector: Float[Array, "F"], ndim: int) -> jax.Array:
    return vector.reshape((1,) * (ndim - 1) + (-1,))
