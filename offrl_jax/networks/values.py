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
    inner = [m for f in _fields(network) for m in _modules(getattr(network, f.name))]
    drops = network.dropout > 0 if isinstance(network, MLP) else takes(network, "key")
    if drops and not isinstance(network, Encoded):
        return type(network).__name__
    return next(filter(None, map(_dropping, inner)), None)


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


def parse_network(text: str, default: nn.Module, networks: Networks = NETWORKS) -> nn.Module:
    """Reads `256x256` or `Name(field=value,…)`.

    Args:
      text: Sizes alone change those of the default, if it is an MLP.
      default: The setting's default.
      networks: Modules by name.

    Raises:
      InputError: if the text is neither form, or names an unknown module or field.
    """
    text = text.strip()
    if SIZES.fullmatch(text):
        return of_sizes(tuple(map(int, text.split("x"))), default)
    source = re.sub(r"\b\d+(x\d+)+\b", lambda found: f"({found[0].replace('x', ',')})", text)
    source = re.sub(r"\b(true|false)\b", lambda found: found[0].title(), source)
    try:
        return _built(ast.parse(source, mode="eval").body, networks)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{text!r} is no network; give hidden sizes such as 256x256, or a module with its "
            "fields such as MLP(hidden_sizes=64x64,layer_norm=true)"
        ) from error


def of_sizes(sizes: tuple[int, ...], default: nn.Module) -> nn.Module:
    """The default with these hidden sizes if it is an MLP, else a plain MLP."""
    return default.copy(hidden_sizes=sizes) if isinstance(default, MLP) else MLP(sizes)


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
            f"{', '.join(networks)}); give your own as networks={{{name!r}: {name}}}"
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


def to_json(network: nn.Module) -> dict[str, Any]:
    """The module by name, with all its fields; a field whose default is a function is left out."""
    found = {f.name: getattr(network, f.name) for f in _fields(network)}
    return {"module": type(network).__name__} | {
        name: _value_to_json(value) for name, value in found.items() if _is_plain(value)
    }


def _value_to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_value_to_json, value))
    return to_json(value) if isinstance(value, nn.Module) else value


def from_json(fields: dict[str, Any], networks: Networks = NETWORKS) -> nn.Module:
    """The module that `to_json` wrote. Only modules among `networks` are made; nothing is imported.

    Raises:
      InputError: if it is not one of `networks`, or has no such field.
    """
    values = {name: _value_from_json(x, networks) for name, x in fields.items() if name != "module"}
    return build(fields["module"], values, networks)


def _value_from_json(value: Any, networks: Networks) -> Any:
    if isinstance(value, list):
        return tuple(_value_from_json(item, networks) for item in value)
    return from_json(value, networks) if isinstance(value, dict) else value
