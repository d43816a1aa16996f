"""Networks as settings: what a config may hold, their text on the command line, and their JSON."""

import ast
import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from offrl_jax.config import setting
from offrl_jax.networks.modules import MLP, Encoded, takes
from offrl_jax.types import InputError, did_you_mean

NETWORKS: dict[str, type[nn.Module]] = {"MLP": MLP, "Encoded": Encoded}
SIZES = re.compile(r"\d+(x\d+)*")
Networks = Mapping[str, type[nn.Module]]


def network_setting(default: nn.Module, help: str, *, dropout: bool = False) -> Any:
    """A config field that holds a network.

    Args:
      default: The network.
      help: The sentence of `--help`.
      dropout: Whether updates give the network a key to drop units out with.
    """
    return setting(default, help, check=partial(check_network, dropout=dropout))


def is_network(field: dataclasses.Field) -> bool:
    """Whether a config's field holds a network."""
    return field.type is nn.Module


def check_network(name: str, network: Any, *, dropout: bool = True) -> None:
    """Checks a network that a config's field `name` holds.

    Raises:
      InputError: if it is no Linen module, a field of it is no fixed value, or it drops units out
        where it receives no key.
    """
    if not isinstance(network, nn.Module):
        kind = type(network)
        is_class = isinstance(network, type) and issubclass(network, nn.Module)
        is_nnx = any(base.__module__.startswith("flax.nnx") for base in kind.__mro__)
        what = (
            f"is the class {network.__name__}; give a module of it, {network.__name__}(…)"
            if is_class
            else f"is an NNX module, {kind.__name__}; give a Linen module (flax.linen.Module)"
            if is_nnx
            else f"is a {kind.__name__}; give a Linen module, such as MLP((256, 256))"
        )
        raise InputError(f"{name} {what}")
    _check_fields(name, network)
    if not dropout and (dropping := _dropping(network)):
        raise InputError(
            f"{name} drops units out in {dropping}, but the algorithm gives this network no key to "
            "do so; give one without dropout"
        )


def _check_fields(name: str, network: nn.Module) -> None:
    kind = type(network)
    if NETWORKS.get(kind.__name__, kind) is not kind:
        raise InputError(
            f"{name}: your class {kind.__name__} has the name of a module of this library, which "
            "files would confuse; give it another"
        )
    for field in _fields(network):
        value = getattr(network, field.name)
        where = f"{name}: {type(network).__name__}.{field.name}"
        for module in _modules(value):
            _check_fields(where, module)
        if not (_is_plain(value) or value is field.default):
            advice = {
                list: "give a tuple",
                dict: "give a tuple or single fields",
            }.get(
                type(value),
                "name it by a string that the module looks up, since two functions never compare "
                "equal"
                if callable(value)
                else "give a number, a string, a tuple or a module",
            )
            raise InputError(f"{where} is a {type(value).__name__}; {advice}")
    if callable(getattr(network, "validate", None)):
        try:
            network.validate()
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _fields(network: nn.Module) -> list[dataclasses.Field]:
    """The fields that a user sets."""
    return [f for f in dataclasses.fields(network) if f.init and f.name not in ("parent", "name")]


def _inner(network: nn.Module) -> list[nn.Module]:
    return [m for f in _fields(network) for m in _modules(getattr(network, f.name))]


def _modules(value: Any) -> list[nn.Module]:
    if isinstance(value, tuple):
        return [module for item in value for module in _modules(item)]
    return [value] if isinstance(value, nn.Module) else []


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return type(value) is tuple and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, nn.Module)


def _dropping(network: nn.Module) -> str | None:
    """The name of the module in it that drops units out, if any."""
    drops = network.dropout > 0 if isinstance(network, MLP) else takes(network, "key")
    if drops and not isinstance(network, Encoded):
        return type(network).__name__
    return next(filter(None, map(_dropping, _inner(network))), None)


# Text


def written(network: nn.Module) -> str:
    """The network as `parse_network` reads it: 256x256, or MLP(hidden_sizes=64x64,layer_norm=True).
    Fields at their default are left out."""
    if isinstance(network, MLP) and network == MLP(network.hidden_sizes):
        return _text(network.hidden_sizes)
    changed = [
        f"{f.name}={_text(value)}"
        for f in _fields(network)
        if (value := getattr(network, f.name)) is not f.default and value != f.default
    ]
    return f"{type(network).__name__}({','.join(changed)})"


def _text(value: Any) -> str:
    if isinstance(value, nn.Module):
        return written(value)
    if isinstance(value, tuple):
        if len(value) > 1 and all(type(item) is int and item >= 0 for item in value):
            return "x".join(map(str, value))
        return f"({''.join(f'{_text(item)},' for item in value)})"
    return str(value)


def parse_network(text: str, networks: Networks = NETWORKS) -> tuple[int, ...] | nn.Module:
    """Reads hidden sizes, `256x256`, or a module, `Name(field=value,…)`.

    Raises:
      InputError: if the text is neither, or names an unknown module or field.
    """
    text = text.strip()
    if SIZES.fullmatch(text):
        return tuple(map(int, text.split("x")))
    source = re.sub(r"\b\d+(x\d+)+\b", lambda found: f"({found[0].replace('x', ',')})", text)
    source = re.sub(r"\b(true|false)\b", lambda found: found[0].title(), source)
    try:
        network = _built(ast.parse(source, mode="eval").body, networks)
        if isinstance(network, nn.Module):
            return network
    except InputError:
        raise
    except (SyntaxError, ValueError) as error:
        problem = error
    else:
        problem = None
    raise InputError(
        f"{text!r} is no network; give hidden sizes such as 256x256, or a module with its fields "
        "such as MLP(hidden_sizes=64x64,layer_norm=true)"
    ) from problem


def with_modules(
    config_type: type, values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings whose networks are modules, where some are given as text or hidden sizes.

    Args:
      config_type: Class of the config.
      values: Settings by name.
      defaults: Networks by setting, in place of the fields' defaults. Sizes alone change those of
        the default, if it is an MLP.
    """
    found = dict(values)
    for field in dataclasses.fields(config_type):
        if is_network(field) and field.name in found:
            default = defaults.get(field.name, field.default)
            found[field.name] = _as_module(found[field.name], default)
    return found


def _as_module(value: Any, default: nn.Module) -> Any:
    if isinstance(value, str):
        value = parse_network(value)
    if not isinstance(value, tuple):
        return value
    return default.copy(hidden_sizes=value) if isinstance(default, MLP) else MLP(value)


def _built(node: ast.expr, networks: Networks) -> Any:
    if not isinstance(node, ast.Call):
        if isinstance(node, ast.Name):  # a string without quotes
            return node.id
        return ast.literal_eval(node)
    if node.args or not isinstance(node.func, ast.Name):
        raise ValueError
    fields = {keyword.arg: _field_value(keyword.value, networks) for keyword in node.keywords}
    return build(node.func.id, fields, networks)


def _field_value(node: ast.expr, networks: Networks) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_field_value(item, networks) for item in node.elts)
    return _built(node, networks)


def build(name: str, fields: dict[str, Any], networks: Networks = NETWORKS) -> nn.Module:
    """The module of that name with these fields.

    Raises:
      InputError: if there is no such module or field.
    """
    if name not in networks:
        raise InputError(
            f"there is no network {name!r}{did_you_mean(name, networks)} (there are "
            f"{', '.join(networks)})"
        )
    known = [f.name for f in dataclasses.fields(networks[name])]
    for field in fields:
        if field not in known or field in ("parent", "name"):
            raise InputError(f"{name} has no field {field!r}{did_you_mean(field, known)}")
    try:
        return networks[name](**fields)
    except TypeError as error:
        raise InputError(f"{name} cannot be made from the fields {fields} ({error})") from error


# JSON


def settings_to_json(settings: Any) -> dict[str, Any]:
    """The fields of a config or a preset as JSON's types. A network is written by name with all its
    fields, but for those that keep a function as their default."""
    return {f.name: to_json(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def to_json(value: Any) -> Any:
    """A setting's value as JSON's types."""
    if isinstance(value, nn.Module):
        found = {f.name: getattr(value, f.name) for f in _fields(value)}
        plain = {name: to_json(x) for name, x in found.items() if _is_plain(x)}
        return {"module": type(value).__name__} | plain
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return list(map(to_json, value)) if isinstance(value, list | tuple) else value


def config_from_json(
    config_type: type, fields: dict[str, Any], networks: Networks, path: object
) -> Any:
    """The config that `settings_to_json` wrote. Only modules among `networks` are made; nothing is
    imported.

    Args:
      config_type: Its class.
      fields: What was written.
      networks: Modules by name.
      path: The file, for errors.

    Raises:
      InputError: if a field is missing or unknown, or a network is not one of `networks`.
    """
    known = {field.name for field in dataclasses.fields(config_type)}
    if others := known ^ fields.keys():
        raise InputError(
            f"{path} was written by another version, with other settings "
            f"({', '.join(sorted(others))}); read it with that version, or train again"
        )
    return config_type(**{k: _from_json(value, networks, path) for k, value in fields.items()})


def _from_json(value: Any, networks: Networks, path: object) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item, networks, path) for item in value)
    if not isinstance(value, dict):
        return value
    fields = {k: _from_json(x, networks, path) for k, x in value.items() if k != "module"}
    name = value["module"]
    if name not in networks:
        raise InputError(
            f"{path} holds the network {name}, which is not one of this library's; give its class "
            f'as networks={{"{name}": {name}}}'
        )
    return build(name, fields, networks)


def known_networks(networks: Networks | None) -> Networks:
    """The library's modules and the user's by name.

    Raises:
      InputError: if one of the user's is no class of Linen modules.
    """
    if not isinstance(networks, Mapping | None):
        raise InputError(
            f'networks is a {type(networks).__name__}; give classes by name, {{"Mine": Mine}}'
        )
    for name, found in (networks or {}).items():
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise InputError(
                f'networks["{name}"] is {found!r}; give the class of a Linen module, of which the '
                "file names the fields"
            )
    return NETWORKS | dict(networks or {})


def networks_of(config: Any) -> Networks:
    """The classes of a config's networks by name, those inside others too.

    Raises:
      InputError: if two have the same name.
    """
    found: dict[str, type[nn.Module]] = {}
    values = (getattr(config, field.name) for field in dataclasses.fields(config))
    pending = [value for value in values if isinstance(value, nn.Module)]
    while pending:
        network = pending.pop()
        kind = type(network)
        if found.setdefault(kind.__name__, kind) is not kind:
            raise InputError(
                f"the config has two networks of the name {kind.__name__}, which files would "
                "confuse; give one another name"
            )
        pending += _inner(network)
    return found
