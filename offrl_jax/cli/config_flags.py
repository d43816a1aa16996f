"""The settings of an algorithm as flags: `--config.NAME=VALUE`, `--grid.NAME=VALUE,VALUE`."""

import dataclasses
from typing import Any

from absl import flags

from offrl_jax.cli.help import section

FLAGS = flags.FLAGS


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
        self._kind = field.type if field.type in (bool, int, float, str) else tuple
        examples = {
            bool: "false,true",
            int: "2,10",
            float: "0.1,0.5",
            str: ",".join(field.metadata["choices"]),
        }
        self._example = examples.get(self._kind, "64x64,256x256")
        self.syntactic_help = f"comma-separated, such as {self._example}"

    def parse(self, argument: str | tuple) -> tuple:
        if isinstance(argument, tuple):
            return argument
        return tuple(self._value(text.strip()) for text in argument.split(","))

    def flag_type(self) -> str:
        return "values"

    def _value(self, text: str) -> Any:
        try:
            if self._kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return tuple(map(int, text.split("x"))) if self._kind is tuple else self._kind(text)
        except (ValueError, LookupError) as error:
            raise ValueError(f"{text!r} is not one; give values such as {self._example}") from error


class _IntegersParser(flags.ArgumentParser):
    """Comma-separated integers, as in 256,256."""

    syntactic_help = "comma-separated integers"

    def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
        if isinstance(argument, tuple):
            return argument
        return tuple(int(number) for number in argument.strip("()[] ").split(",") if number)

    def flag_type(self) -> str:
        return "integers"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
