"""Networks as settings: the field, its check, and lookup of network classes by name."""

import dataclasses
import inspect
import math
import reprlib
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


def is_network_class(value: Any) -> bool:
    """Whether it is a class of Linen modules."""
    return isinstance(value, type) and issubclass(value, nn.Module)


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
        is_nnx = any(base.__module__.startswith("flax.nnx") for base in kind.__mro__)
        what = (
            f"is the class {network.__name__}; give an instance, {network.__name__}(…)"
            if is_network_class(network)
            else f"is an NNX module, {kind.__name__}; give a Linen module (flax.linen.Module)"
            if is_nnx
            else f"is a {kind.__name__}; give a Linen module, such as MLP((256, 256))"
        )
        raise InputError(f"{name} {what}")
    _check_fields(name, network)
    parts = _parts(network)
    if len({id(part) for part in parts}) < len(parts):
        raise InputError(
            f"{name} holds the same module in two places, perhaps as a field's default, and they "
            "would share parameters; give each place its own"
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
    if network.name is not None or network.scope is not None:
        raise InputError(
            f"{name}: {kind.__name__} has a name or is bound to parameters, which files do not "
            "keep; give a new module without name=…"
        )
    _check_call(name, kind)
    for field in fields_of(network):
        value = getattr(network, field.name)
        where = f"{name}: {type(network).__name__}.{field.name}"
        for module in _modules(value):
            _check_fields(where, module)
        if value is not field.default and (item := _unusable(value)) is not None:
            raise InputError(f"{where} holds {reprlib.repr(item)}; {_advice(item)}")
    if isinstance(network, MLP | Encoded):
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
    """Whether equal values compare equal and can be written to a file."""
    return _unusable(value) is None


def _unusable(value: Any) -> Any:
    """The part of a value that no file can hold or that is not equal to itself, if any."""
    if type(value) is tuple:
        return next((item for x in value if (item := _unusable(x)) is not None), None)
    if isinstance(value, float) and not math.isfinite(value):
        return value
    is_plain = value is None or type(value) in (bool, int, float, str)
    return None if is_plain or isinstance(value, nn.Module) else value


def _advice(value: Any) -> str:
    if isinstance(value, float):
        return "give a finite number"
    if isinstance(value, list):
        return "give a tuple"
    if isinstance(value, dict):
        return "give a tuple, or a field for each entry"
    if isinstance(value, type) or hasattr(value, "dtype"):
        return "give a Python number, or the name of a type as a string"
    if callable(value):
        return (
            "give its name as a string and look it up in the module, since functions from two "
            "calls never compare equal"
        )
    return "give a number, a string, a tuple or a module"


def _check_call(name: str, kind: type[nn.Module]) -> None:
    """Raises InputError unless `__call__` takes an input and, if it likes, `action` and `key`."""
    is_defined = any("__call__" in vars(base) for base in kind.__mro__)
    signature = inspect.signature(kind.__call__).parameters if is_defined else {}
    parameters = [p for p in signature.values() if p.name != "self"]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [
        p.name
        for p in parameters
        if p not in positional[:1]
        and p.name not in ("action", "key")
        and p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not (positional or takes_any) or others:
        problem = f"needs {', '.join(others)}" if others else "takes no input"
        raise InputError(
            f"{name}: __call__ of {kind.__name__} {problem}; give one with an input and, where "
            "needed, action and key, and a default for all else"
        )


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
        if NETWORKS.get(name, found) is not found:
            raise InputError(f'networks["{name}"] has the name of a library class; rename yours')
        if not is_network_class(found):
            raise InputError(
                f'networks["{name}"] is {found!r}; give the class itself, a subclass '
                "of flax.linen.Module"
            )
    return NETWORKS | dict(networks or {})


def networks_of(*configs: Any) -> Networks:
    """The classes of a config's networks and of the modules inside them, by name.

    Raises:
      InputError: if two classes have the same name.
    """
    found: dict[str, type[nn.Module]] = {}
    values = (getattr(c, field.name) for c in configs for field in dataclasses.fields(c))
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
