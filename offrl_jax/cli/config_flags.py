"""The settings of an algorithm as flags: `--config.NAME=VALUE`, `--grid.NAME=VALUE,VALUE`."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
from absl import flags

from offrl_jax.cli.algorithms import find_networks
from offrl_jax.cli.help import section
from offrl_jax.networks.text import parse_network, written
from offrl_jax.networks.values import NETWORKS, is_network
from offrl_jax.types import InputError

FLAGS = flags.FLAGS
OWN_CLASS = re.compile(r"[\w.]+:\w+")


def define_config_flags(config_type: type) -> None:
    """A flag `--config.NAME` for each field of a config class."""
    with section("settings (a preset may override these defaults)"):
        for field in dataclasses.fields(config_type):
            name = f"config.{field.name}"
            text = f"{field.metadata['help']} (default: {_written(field.default)})"
            if field.type is bool:
                flags.DEFINE_bool(name, None, text)
            elif field.type is int:
                flags.DEFINE_integer(name, None, text)
            elif field.type is float:
                flags.DEFINE_float(name, None, text)
            elif is_network(field):
                flags.DEFINE(_NetworkParser(), name, None, text)
            elif field.metadata["choices"]:
                flags.DEFINE_enum(name, None, field.metadata["choices"], text)
            else:
                flags.DEFINE(_IntegersParser(), name, None, text)


def define_grid_flags(config_type: type) -> None:
    """A flag `--grid.NAME` for each field of a config class."""
    with section("settings to sweep"):
        for field in dataclasses.fields(config_type):
            text = f"values to try for --config.{field.name}"
            flags.DEFINE(_ValuesParser(field), f"grid.{field.name}", None, text)


def config_overrides(config_type: type) -> dict[str, Any]:
    """The fields of the config that were given as `--config.NAME=VALUE`."""
    return _given("config", config_type)


def grid_values(config_type: type) -> dict[str, tuple]:
    """The values of fields that were given as `--grid.NAME=VALUE,VALUE`, in the fields' order."""
    return _given("grid", config_type)


def _given(prefix: str, config_type: type) -> dict[str, Any]:
    values = {f.name: FLAGS[f"{prefix}.{f.name}"].value for f in dataclasses.fields(config_type)}
    return {name: value for name, value in values.items() if value is not None}


class _ValuesParser(flags.ArgumentParser):
    """Comma-separated values of a config's field."""

    def __init__(self, field: dataclasses.Field):
        examples = {
            bool: "false,true",
            int: "2,10",
            float: "0.1,0.5",
            str: ",".join(field.metadata["choices"]),
        }
        readers = {bool: _read_bool, int: int, float: float, str: str, nn.Module: _read_network}
        self._read = readers.get(field.type, _read_integers)
        self._example = examples.get(field.type, "64x64,256x256")
        self.syntactic_help = f"comma-separated, such as {self._example}"

    def parse(self, argument: str | tuple) -> tuple:
        if isinstance(argument, tuple):
            return argument
        return tuple(self._value(text.strip()) for text in _parts(argument))

    def flag_type(self) -> str:
        return "values"

    def _value(self, text: str) -> Any:
        try:
            return self._read(text)
        except InputError:
            raise
        except (ValueError, LookupError) as error:
            raise ValueError(f"{text!r} is not one; give values such as {self._example}") from error


class _NetworkParser(flags.ArgumentParser):
    """A network, as in 256x256 or MLP(hidden_sizes=64x64,layer_norm=true)."""

    syntactic_help = (
        "hidden sizes such as 256x256, a module with its fields such as "
        "MLP(hidden_sizes=64x64,layer_norm=true), or your own as my_module:Mine(width=64)"
    )

    def parse(self, argument: Any) -> Any:
        return _read_network(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return "network"


class _IntegersParser(flags.ArgumentParser):
    """Comma-separated integers, as in 256,256."""

    syntactic_help = "comma-separated integers"

    def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
        if isinstance(argument, tuple):
            return argument
        return tuple(int(number) for number in argument.strip("()[] ").split(",") if number)

    def flag_type(self) -> str:
        return "integers"


def _read_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _read_integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def _read_network(text: str) -> Any:
    """Reads hidden sizes or a module. Own classes are given as MODULE:CLASS."""
    own = find_networks(OWN_CLASS.findall(text))
    return parse_network(
        OWN_CLASS.sub(lambda found: found[0].partition(":")[2], text), NETWORKS | own
    )


def _parts(text: str) -> list[str]:
    """Splits at commas outside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _written(value: Any) -> str:
    if isinstance(value, nn.Module):
        return written(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
