"""Networks as text: 256x256, or MLP(hidden_sizes=64x64,layer_norm=True)."""

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from offrl_jax.networks.modules import MLP, fields_of
from offrl_jax.networks.values import NETWORKS, Networks, build, is_network
from offrl_jax.types import InputError

SIZES = re.compile(r"\d+(x\d+)*")
QUOTED = re.compile(r"""('[^']*'|"[^"]*")""")
WORDS = {"true": "True", "false": "False", "none": "None"}


def written(network: nn.Module) -> str:
    """The network as text that `parse_network` reads, without fields at their defaults."""
    if isinstance(network, MLP) and network == MLP(network.hidden_sizes):
        return "x".join(map(str, network.hidden_sizes))
    return _call(network)


def _call(network: nn.Module) -> str:
    changed = [
        f"{f.name}={_text(value)}"
        for f in fields_of(network)
        if (value := getattr(network, f.name)) is not f.default and value != f.default
    ]
    return f"{type(network).__name__}({','.join(changed)})"


def _text(value: Any) -> str:
    if isinstance(value, nn.Module):
        return _call(value)
    if isinstance(value, str) and not (value.isidentifier() and value.lower() not in WORDS):
        return repr(value)
    if isinstance(value, tuple):
        if len(value) > 1 and all(type(item) is int and item >= 0 for item in value):
            return "x".join(map(str, value))
        return f"({''.join(f'{_text(item)},' for item in value)})"
    return str(value)


def parse_network(text: str, networks: Networks = NETWORKS) -> tuple[int, ...] | nn.Module:
    """Reads hidden sizes, `256x256`, or a module, `Name(field=value,…)`.

    Args:
      text: The text. Strings need no quotes.
      networks: Network classes by name.

    Raises:
      InputError: if the text is neither, or names an unknown module or field.
    """
    text = text.strip()
    if SIZES.fullmatch(text):
        return tuple(map(int, text.split("x")))
    parts = QUOTED.split(text)  # every other one is quoted
    parts[::2] = map(_as_python, parts[::2])
    try:
        network = _built(ast.parse("".join(parts), mode="eval").body, networks)
        if not isinstance(network, nn.Module):
            raise ValueError("no module is named")
        return network
    except InputError:
        raise
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"{text!r} is not a network; give hidden sizes such as 256x256, or a module with its "
            "fields such as MLP(hidden_sizes=64x64,layer_norm=true)"
        ) from error


def _as_python(text: str) -> str:
    """Sizes as tuples, and words such as true as Python writes them."""
    text = re.sub(r"\b\d+(x\d+)+\b", lambda found: f"({found[0].replace('x', ',')})", text)
    return re.sub(r"\b(true|false|none)\b", lambda found: WORDS[found[0]], text)


def with_modules(
    config_type: type, values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Replaces networks given as text or hidden sizes by modules. If the setting's default is an
    MLP, hidden sizes keep its other fields.

    Args:
      config_type: The class of the config.
      values: Settings by name.
      defaults: Default networks by setting. They override the fields' defaults.

    Raises:
      InputError: as `parse_network`.
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
    if len(fields) < len(node.keywords):
        raise ValueError("a field is given twice")
    return build(node.func.id, fields, networks)


def _field_value(node: ast.expr, networks: Networks) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_field_value(item, networks) for item in node.elts)
    return _built(node, networks)
