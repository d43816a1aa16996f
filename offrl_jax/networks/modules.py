"""Networks: static, hashable Flax Linen modules that map inputs to features."""

import dataclasses
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from offrl_jax.devices import BFLOAT16
from offrl_jax.types import Array, Float, InputError, Key

ACTIVATIONS = {
    name: getattr(nn, name) for name in ("relu", "gelu", "elu", "silu", "leaky_relu", "tanh")
}
INITIALIZERS = {
    # U(±1/√fan_in), the default of PyTorch and so of most published offline-RL code
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "orthogonal": nn.initializers.orthogonal(2**0.5),
    "glorot": nn.initializers.glorot_uniform(),
}


def layer_type() -> Any:
    """The dtype of hidden layers' computation: bfloat16 if `jax.default_matmul_precision` is
    `BFLOAT16`, which XLA ignores on CPUs; otherwise None, the dtype of their inputs. Parameters and
    outputs of networks are always float32."""
    return jnp.bfloat16 if jax.config.jax_default_matmul_precision == BFLOAT16 else None


class MLP(nn.Module):
    """Dense layers, each followed by an activation and optionally LayerNorm and dropout.

    The first layer takes s, or [s, a] if an action is given. For several actions per state,
    (B, N, A), it adds a state part, computed once per state, and an action part.

    Attributes:
      hidden_sizes: Number of units in each layer. The last layer returns the features.
      activation: One of `ACTIVATIONS`.
      layer_norm: Whether a LayerNorm follows each activation.
      dropout: Fraction of units dropped after each layer in calls with a key, 0 to 0.9. It is
        static: a sweep compiles a program for each value.
      initializer: Initialiser of the weights, one of `INITIALIZERS`. Biases start at 0.
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    dropout: float = 0.0
    initializer: str = "torch"

    @nn.compact
    def __call__(
        self,
        observation: Float[Array, "*B O"],
        action: Float[Array, "... A"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "... F"]:
        kernel_init, x = INITIALIZERS[self.initializer], observation
        for i, size in enumerate(self.hidden_sizes):
            settings = {"kernel_init": kernel_init, "name": f"Dense_{i}"}
            if i == 0 and action is not None:
                x = _StateActionDense(size, **settings)(observation, action)
            else:
                x = nn.Dense(size, dtype=layer_type(), **settings)(x)
            x = ACTIVATIONS[self.activation](x)
            x = nn.LayerNorm(name=f"LayerNorm_{i}")(x) if self.layer_norm else x
            if self.dropout and key is not None:
                layer_key = jax.random.fold_in(key, i)
                x = nn.Dropout(self.dropout)(x, deterministic=False, rng=layer_key)
        return x

    def __repr__(self) -> str:
        return one_line(self)

    def validate(self) -> None:
        """Raises InputError if a field has a wrong type or is out of range."""
        sizes = self.hidden_sizes
        if not (
            isinstance(sizes, tuple)
            and sizes
            and all(type(size) is int and size > 0 for size in sizes)
        ):
            raise InputError(
                f"hidden_sizes={sizes!r}; give a tuple of positive integers, such as (256, 256)"
            )
        for field, known in (("activation", ACTIVATIONS), ("initializer", INITIALIZERS)):
            if getattr(self, field) not in known:
                raise InputError(
                    f"{field}={getattr(self, field)!r} is not one of {', '.join(known)}"
                )
        if not isinstance(self.layer_norm, bool):
            raise InputError(f"layer_norm={self.layer_norm!r}; give True or False")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout <= 0.9:
            raise InputError(f"dropout={self.dropout!r}; give a number from 0 to 0.9")


class _StateActionDense(nn.Module):
    """A dense layer on [s, a], for one action per state (B, A) or several (B, N, A)."""

    size: int
    kernel_init: Any

    @nn.compact
    def __call__(
        self, observation: Float[Array, "*B O"], action: Float[Array, "... A"]
    ) -> Float[Array, "... F"]:
        width = observation.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (width + action.shape[-1], self.size))
        bias = self.param("bias", nn.initializers.zeros, (self.size,))
        observation, action, kernel, bias = promote_dtype(
            observation, action, kernel, bias, dtype=layer_type()
        )
        if action.ndim == observation.ndim:
            x = jnp.concatenate([observation, action], axis=-1) @ kernel
        else:
            x = jnp.expand_dims(observation @ kernel[:width], -2) + action @ kernel[width:]
        return x + row(bias, x.ndim)


class Encoded(nn.Module):
    """An encoder in front of a network. The members of an ensemble share the encoder, which runs
    once per state.

    Attributes:
      encoder: Maps observations (B, O) to features (B, F).
      network: Takes these features in place of observations.
    """

    encoder: nn.Module
    network: nn.Module

    def __repr__(self) -> str:
        return one_line(self)

    def validate(self) -> None:
        """Raises InputError if a field is no module, or the network is encoded again."""
        for field in ("encoder", "network"):
            if not isinstance(getattr(self, field), nn.Module):
                raise InputError(
                    f"{field}={getattr(self, field)!r} of Encoded; give a Linen module, such as "
                    "MLP((64, 64))"
                )
        if isinstance(self.network, Encoded):
            raise InputError(
                "Encoded holds another Encoded as its network, whose encoder would run for each "
                "critic; put both encoders into one module"
            )

    @nn.compact
    def __call__(
        self,
        observation: Float[Array, "*B O"],
        action: Float[Array, "... A"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "... F"]:
        encoder_key, key = (None, None) if key is None else jax.random.split(key)
        encoded = features(self.encoder, observation, None, encoder_key)
        return features(self.network, encoded, action, key)


def fields_of(network: nn.Module | type[nn.Module]) -> list[dataclasses.Field]:
    """The fields that users set: all but Flax's `parent` and `name`."""
    return [f for f in dataclasses.fields(network) if f.init and f.name not in ("parent", "name")]


def one_line(network: nn.Module) -> str:
    """The module as a Python expression: its first field, and those not at their defaults."""
    first, *others = fields_of(network)
    shown = [first, *(f for f in others if getattr(network, f.name) != f.default)]
    fields = (f"{f.name}={getattr(network, f.name)!r}" for f in shown)
    return f"{type(network).__name__}({', '.join(fields)})"


def takes(network: nn.Module, name: str) -> bool:
    """Whether the module's `__call__` has a parameter of this name."""
    return name in inspect.signature(type(network).__call__).parameters


def requires_action(network: nn.Module) -> bool:
    """Whether the network needs an action."""
    if isinstance(network, Encoded):
        return requires_action(network.network)
    action = inspect.signature(type(network).__call__).parameters.get("action")
    return action is not None and action.default is inspect.Parameter.empty


def features(
    network: nn.Module,
    observation: Float[Array, "*B O"],
    action: Float[Array, "... A"] | None = None,
    key: Key | None = None,
) -> Float[Array, "... F"]:
    """The network's features of s, or of (s, a) for one or several actions per state.

    If `__call__` has no parameter `action`, the network receives [s, a] in place of s. If it has a
    parameter `key`, it receives the dropout key, which is None in evaluation.

    Raises:
      InputError: if the network needs an action and none is given, or does not return one vector
        for each input.
    """
    if action is None and requires_action(network):
        raise InputError(
            f"{type(network).__name__} needs an action, but a network of states is required "
            "here; give a module whose __call__ has no parameter action, or has action=None"
        )
    leading = (observation if action is None else action).shape[:-1]
    keywords = {"key": key} if takes(network, "key") else {}
    if action is not None and takes(network, "action"):
        keywords["action"] = action
    elif action is not None:
        if action.ndim > observation.ndim:
            shape = (*leading, observation.shape[-1])
            observation = jnp.broadcast_to(jnp.expand_dims(observation, -2), shape)
        observation = jnp.concatenate([observation, action], axis=-1)
    x = network(observation, **keywords)
    if not isinstance(x, jax.Array):
        raise InputError(
            f"{type(network).__name__} returns a {type(x).__name__}; it must return an array of "
            "features"
        )
    if x.shape[:-1] != leading:
        raise InputError(
            f"{type(network).__name__} returns shape {x.shape} for inputs of shape "
            f"{observation.shape}; it must return one vector for each input"
        )
    return x


def row(vector: Float[Array, "F"], ndim: int) -> jax.Array:
    """Reshapes the vector to `ndim` axes, all of size 1 but the last."""
    return vector.reshape((1,) * (ndim - 1) + (-1,))
