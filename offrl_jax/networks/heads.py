"""Policies, values and ensembles of critics: networks with a linear head.

Parameters are dictionaries. One network has `network` and `head`. An ensemble has `members`,
stacked over E; if the network is `Encoded`, it also has `encoder`, which the members share.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.networks.distributions import Categorical, Gaussian, TanhGaussian
from offrl_jax.networks.modules import INITIALIZERS, Encoded, features, row
from offrl_jax.types import Array, Float, InputError, Key, Spec

LOG_STD_RANGE = (-5.0, 2.0)  # EDAC, IQL


class Headed(nn.Module):
    """A network followed by a linear head."""

    network: nn.Module
    output_size: int

    @nn.compact
    def __call__(
        self,
        observation: Float[Array, "*B O"],
        action: Float[Array, "... A"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "... F"]:
        x = features(self.network, observation, action, key)
        return nn.Dense(self.output_size, kernel_init=INITIALIZERS["torch"], name="head")(x)


def init_outputs(
    network: nn.Module,
    output_size: int,
    key: Key,
    observation: Float[Array, "*B O"],
    action: Float[Array, "... A"] | None = None,
) -> Any:
    """Initialises a network with `output_size` outputs for inputs of these shapes.

    Raises:
      InputError: if the network has variables that are not parameters, or does not return one
        vector for each input.
    """
    return _init(Headed(network, output_size), key, observation, action)


def outputs(
    network: nn.Module,
    params: Any,
    observation: Float[Array, "*B O"],
    action: Float[Array, "... A"] | None = None,
    *,
    key: Key | None = None,
) -> Float[Array, "... F"]:
    """The outputs for s, or for (s, a). Dropout is active if a key is given."""
    module = Headed(network, params["head"]["bias"].shape[-1])
    return module.apply({"params": params}, observation, action, key)


def init_policy(network: nn.Module, output_size: int, spec: Spec, key: Key) -> Any:
    """Initialises a network that maps states to `output_size` outputs."""
    return init_outputs(network, output_size, key, jnp.zeros((1, spec.observation_size)))


def gaussian_policy(
    network: nn.Module,
    params: Any,
    observation: Float[Array, "*B O"],
    *,
    log_std_range: tuple[float, float] = LOG_STD_RANGE,
    key: Key | None = None,
) -> TanhGaussian:
    """π(·|s), a tanh-Gaussian. The first A of 2A outputs are means, the others log standard
    deviations, clipped to `log_std_range`."""
    mean, log_std = jnp.split(outputs(network, params, observation, key=key), 2, axis=-1)
    return TanhGaussian(mean, jnp.clip(log_std, *log_std_range))


def categorical_policy(
    network: nn.Module, params: Any, observation: Float[Array, "*B O"], *, key: Key | None = None
) -> Categorical:
    """π(·|s) over discrete actions; the outputs are its logits."""
    return Categorical(outputs(network, params, observation, key=key))


def deterministic_policy(
    network: nn.Module, params: Any, observation: Float[Array, "*B O"], *, key: Key | None = None
) -> Float[Array, "*B A"]:
    """π(s) = tanh(outputs), in (−1, 1)."""
    return jnp.tanh(outputs(network, params, observation, key=key))


def init_tanh_mean_policy(network: nn.Module, spec: Spec, key: Key) -> Any:
    """Initialises a `tanh_mean_policy` with standard deviations of 1."""
    mean = init_policy(network, spec.action_size, spec, key)
    return {"mean": mean, "log_std": jnp.zeros(spec.action_size)}


def tanh_mean_policy(
    network: nn.Module, params: Any, observation: Float[Array, "B O"], *, key: Key | None = None
) -> Gaussian:
    """π(·|s) = N(tanh f(s), σ²) with one σ for all states: the policy of IQL and AWAC."""
    mean = jnp.tanh(outputs(network, params["mean"], observation, key=key))
    log_std = jnp.clip(params["log_std"], *LOG_STD_RANGE)
    return Gaussian(mean, jnp.broadcast_to(row(log_std, mean.ndim), mean.shape))


def init_value(network: nn.Module, spec: Spec, key: Key) -> Any:
    """Initialises V."""
    return init_policy(network, 1, spec, key)


def state_value(
    network: nn.Module, params: Any, observation: Float[Array, "B O"], *, key: Key | None = None
) -> Float[Array, "B"]:
    """V(s)."""
    return outputs(network, params, observation, key=key)[..., 0]


def init_critics(network: nn.Module, num_critics: int, spec: Spec, key: Key) -> Any:
    """Initialises E = `num_critics` critics from independent keys."""
    observation, action = jnp.zeros((1, spec.observation_size)), jnp.zeros((1, spec.action_size))
    shared = {}
    if isinstance(network, Encoded):
        encoder_key, key = jax.random.split(key)
        shared = {"encoder": _init(_Features(network.encoder), encoder_key, observation)}
        observation = _encoded(network, shared, observation)
        network = network.network
    member = Headed(network, 1)
    init = jax.vmap(lambda key: _init(member, key, observation, action))
    return shared | {"members": init(jax.random.split(key, num_critics))}


def critic_values(
    network: nn.Module,
    params: Any,
    observation: Float[Array, "B O"],
    action: Float[Array, "B *N A"],
) -> Float[Array, "E B *N"]:
    """Q_k(s, a) of every critic, for one or several actions per state."""
    return jax.vmap(_member(network, params, observation), (0, None))(params["members"], action)


def critic_values_and_slopes(
    network: nn.Module, params: Any, observation: Float[Array, "B O"], action: Float[Array, "B A"]
) -> tuple[Float[Array, "E B"], Float[Array, "E B A"]]:
    """Q_k(s, a) and ∇_a Q_k(s, a) of every critic."""
    value = _member(network, params, observation)

    def of_member(params: Any) -> tuple[Float[Array, "B"], Float[Array, "B A"]]:
        q, backward = jax.vjp(lambda action: value(params, action), action)
        return q, backward(jnp.ones_like(q))[0]

    return jax.vmap(of_member)(params["members"])


def _member(network: nn.Module, params: Any, observation: Float[Array, "B O"]) -> Callable:
    """Q_k as a function of its parameters and actions. States are encoded once for all k."""
    if isinstance(network, Encoded):
        observation = _encoded(network, params, observation)
        network = network.network
    return lambda params, action: outputs(network, params, observation, action)[..., 0]


def first(critic: Any) -> Any:
    """Parameters of the first critic, as an ensemble of one."""
    return critic | {"members": jax.tree.map(lambda x: x[:1], critic["members"])}


class _Features(nn.Module):
    """A network without a head, with the parameter names of `Headed`."""

    network: nn.Module

    @nn.compact
    def __call__(
        self, observation: Float[Array, "*B O"], action: None = None, key: Key | None = None
    ) -> Float[Array, "*B F"]:
        return features(self.network, observation, action, key)


def _encoded(
    network: Encoded, params: Any, observation: Float[Array, "*B O"]
) -> Float[Array, "*B F"]:
    return _Features(network.encoder).apply({"params": params["encoder"]}, observation)


def _init(module: Headed | _Features, key: Key, observation: Array, action: Any = None) -> Any:
    """Raises InputError if the module has variables that are not parameters."""
    variables = module.init(key, observation, action)
    if others := set(variables) - {"params"}:
        raise InputError(
            f"{type(module.network).__name__} has the variables {', '.join(sorted(others))} "
            "beside its parameters, which training does not update; use layers with parameters "
            "only, such as LayerNorm in place of BatchNorm"
        )
    return variables["params"]
