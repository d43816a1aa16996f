"""Converts configs and networks to JSON and back. Reading a file never imports code it names."""

import dataclasses
from typing import Any

import flax.linen as nn

from offrl_jax.networks.modules import fields_of
from offrl_jax.networks.values import Networks, build, is_plain
from offrl_jax.types import InputError, did_you_mean


def settings_to_json(settings: Any) -> dict[str, Any]:
    """The fields of a config or a preset as JSON types. A network becomes its class's name and its
    fields, without fields whose default is a function."""
    return {f.name: to_json(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def to_json(value: Any) -> Any:
    """A setting's value as JSON types."""
    if isinstance(value, nn.Module):
        found = {f.name: getattr(value, f.name) for f in fields_of(value)}
        plain = {name: to_json(x) for name, x in found.items() if is_plain(x)}
        return {"module": type(value).__name__} | plain
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return list(map(to_json, value)) if isinstance(value, list | tuple) else value


def config_from_json(
    config_type: type, fields: dict[str, Any], networks: Networks, path: object
) -> Any:
    """Reads a config that `settings_to_json` wrote. Only classes in `networks` are instantiated,
    and nothing is imported. Missing fields take their defaults.

    Args:
      config_type: The class of the config.
      fields: The JSON object.
      networks: Network classes by name.
      path: The file, for error messages.

    Raises:
      InputError: if a field is unknown, or a network is not one of `networks`.
    """
    known = {field.name for field in dataclasses.fields(config_type)}
    if others := [name for name in fields if name not in known]:
        raise InputError(
            f"{path} was written by another version, with settings that this one does not have "
            f"({', '.join(others)}); read it with that version, or train again"
        )
    return config_type(**{k: from_json(value, networks, path) for k, value in fields.items()})


def from_json(value: Any, networks: Networks, path: object) -> Any:
    """Reads a value that `to_json` wrote. Arguments and errors are those of `config_from_json`."""
    if isinstance(value, list):
        return tuple(from_json(item, networks, path) for item in value)
    if not isinstance(value, dict):
        return value
    if not isinstance(name := value.get("module"), str):
        raise InputError(f"{path} holds a setting {value} that names no module; it is damaged")
    fields = {k: from_json(x, networks, path) for k, x in value.items() if k != "module"}
    if name not in networks:
        raise InputError(
            f"{path} holds the network {name}, which is not one of this library's"
            f"{did_you_mean(name, networks)}; give its "
            f'class as `networks={{"{name}": {name}}}` in Python, or as '
            f"`--networks=MODULE:{name}` on the command line"
        )
    return build(name, fields, networks)
