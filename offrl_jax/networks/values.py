"""Networks as settings: the field, its check, and lookup of network classes by name."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from offrl_jax.config import setting
from offrl_jax.networks.modules import MLP, Encoded, fields_of, takes
from offrl_jax.types import InputError, did_you_mean

NETWORKS: dict[str, type[nn.Module]] = {"MLP": MLP, "Encoded": Encoded}
Networks = Mapping[str, type[nn.Module]]


def network_setting(default: nn.Module, help: str, *, dropout: bool = False) -> Any:
    """A config field that holds a network.

    Args:
      default: The default network.
      help: The text of `--help`.
      dropout: Whether updates pass the network a dropout key.
    """
    return setting(default, help, check=partial(check_network, dropout=dropout))


def is_network(field: dataclasses.Field) -> bool:
    """Whether a config's field holds a network."""
    return field.type is nn.Module


def check_network(name: str, network: Any, *, dropout: bool = True) -> None:
    """Checks that a network can be a setting.

    Args:
      name: The setting, for error messages.
      network: Its value.
      dropout: Whether updates pass the network a dropout key.

    Raises:
      InputError: if it is not a Linen module, a field is not a number, string, tuple or module, one
        module stands in two places, or it uses dropout but gets no key.
    """
    if not isinstance(network, nn.Module):
        kind = type(network)
        is_class = isinstance(network, type) and issubclass(network, nn.Module)
        is_nnx = any(base.__module__.startswith("flax.nnx") for base in kind.__mro__)
        what = (
            f"is the class {network.__name__}; give an instance, {network.__name__}(…)"
            if is_class
            else f"is an NNX module, {kind.__name__}; give a Linen module (flax.linen.Module)"
            if is_nnx
            else f"is a {kind.__name__}; give a Linen module, such as MLP((256, 256))"
        )
        raise InputError(f"{name} {what}")
    _check_fields(name, network)
    parts = _parts(network)
    if len({id(part) for part in parts}) < len(parts):
        raise InputError(
            f"{name} holds the same module in two places, which would share parameters; give each "
            "place its own"
        )
    if not dropout and (dropping := _dropping(network)):
        raise InputError(
            f"{name} uses dropout in {dropping}, but the algorithm passes this network no dropout "
            "key; give a network without dropout"
        )


def _check_fields(name: str, network: nn.Module) -> None:
    kind = type(network)
    if NETWORKS.get(kind.__name__, kind) is not kind:
        raise InputError(
            f"{name}: your class {kind.__name__} has the name of one of this library's classes, "
            "and files store only the name; rename yours"
        )
    for field in fields_of(network):
        value = getattr(network, field.name)
        where = f"{name}: {type(network).__name__}.{field.name}"
        for module in _modules(value):
            _check_fields(where, module)
        if not (is_plain(value) or value is field.default):
            advice = {
                list: "give a tuple",
                dict: "give a tuple, or a field for each entry",
            }.get(
                type(value),
                "give its name as a string and look it up in the module, since functions from two "
                "calls never compare equal"
                if callable(value)
                else "give a number, a string, a tuple or a module",
            )
            raise InputError(f"{where} is a {type(value).__name__}; {advice}")
    if callable(getattr(network, "validate", None)):
        try:
            network.validate()
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _modules(value: Any) -> list[nn.Module]:
    """The modules in a field's value: itself, or those in a tuple."""
    if isinstance(value, tuple):
        return [module for item in value for module in _modules(item)]
    return [value] if isinstance(value, nn.Module) else []


def _inner(network: nn.Module) -> list[nn.Module]:
    """The modules in its fields."""
    return [m for f in fields_of(network) for m in _modules(getattr(network, f.name))]


def _parts(network: nn.Module) -> list[nn.Module]:
    """The module and all modules inside it."""
    return [network, *(part for module in _inner(network) for part in _parts(module))]


def is_plain(value: Any) -> bool:
    """Whether a field's value is hashable, compares by value and can be written to JSON."""
    if isinstance(value, tuple):
        return type(value) is tuple and all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, nn.Module)


def _dropping(network: nn.Module) -> str | None:
    """The class name of the first module inside it that uses dropout, if any."""
    drops = network.dropout > 0 if isinstance(network, MLP) else takes(network, "key")
    if drops and not isinstance(network, Encoded):
        return type(network).__name__
    return next(filter(None, map(_dropping, _inner(network))), None)


def known_networks(networks: Networks | None) -> Networks:
    """The library's and the user's network classes by name.

    Raises:
      InputError: if one of the user's is not a class of Linen modules.
    """
    if not isinstance(networks, Mapping | None):
        raise InputError(
            f'networks is a {type(networks).__name__}; give classes by name, {{"Mine": Mine}}'
        )
    for name, found in (networks or {}).items():
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise InputError(
                f'networks["{name}"] is {found!r}; give the class itself, a subclass '
                "of flax.linen.Module"
            )
    return NETWORKS | dict(networks or {})


def networks_of(config: Any) -> Networks:
    """The classes of a config's networks and of the modules inside them, by name.

    Raises:
      InputError: if two classes have the same name.
    """
    found: dict[str, type[nn.Module]] = {}
    values = (getattr(config, field.name) for field in dataclasses.fields(config))
    networks = [value for value in values if isinstance(value, nn.Module)]
    for part in (part for network in networks for part in _parts(network)):
        kind = type(part)
        if found.setdefault(kind.__name__, kind) is not kind:
            raise InputError(
                f"the config has two network classes named {kind.__name__}, and files store only "
                "the name; rename one"
            )
    return found


def build(name: str, fields: dict[str, Any], networks: Networks = NETWORKS) -> nn.Module:
    """Instantiates the network class of that name with these fields.

    Raises:
      InputError: if there is no such class or field, or a required field is missing.
    """
    if name not in networks:
        raise InputError(
            f"there is no network {name!r}{did_you_mean(name, networks)} (there are "
            f"{', '.join(networks)})"
        )
    known = [field.name for field in fields_of(networks[name])]
    for field in fields:
        if field not in known:
            raise InputError(f"{name} has no field {field!r}{did_you_mean(field, known)}")
    try:
        return networks[name](**fields)
    except TypeError as error:
        raise InputError(f"{name} cannot be made with the fields {fields} ({error})") from error
