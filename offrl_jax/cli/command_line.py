"""Typed command-line flags for algorithm configs, and errors of one line."""

import dataclasses
import difflib
import inspect
import io
import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from absl import app, flags, logging

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.cli.compiled_programs import keep_programs
from offrl_jax.runs.messages import say
from offrl_jax.runs.outcomes import AlreadyFinished, RunFailed, Stopped
from offrl_jax.types import InputError

FLAGS = flags.FLAGS
ERROR_CODE = 2
FAILED_CODE = 3  # the run could not be written, or its seeds diverged
STOPPED_CODE = 75  # by a signal, all saved: BSD's EX_TEMPFAIL, which asks to be tried again


def launch(main: Callable[..., None], config_type: type | None = None) -> None:
    """Parses the flags, runs `main`, on the words beside them if it takes any (`*words`), and
    answers what is no fault of the program with one line and an exit code of its own.

    The fields of `config_type`, or of the config of the flag `--algorithm`, are flags too.
    """

    def guarded(argv: list[str]) -> None:
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries narrate at INFO
        try:
            words = argv[1:]
            if words and not inspect.signature(main).parameters:
                raise InputError(f"{words[0]!r} is not a flag; flags look like --num_steps=10000")
            keep_programs()
            main(*words)
        except InputError as error:
            _fail(error)
        except AlreadyFinished as error:
            print(error)
        except Stopped as error:
            say(str(error))
            sys.exit(STOPPED_CODE)
        except RunFailed as error:
            _fail(error, FAILED_CODE)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of folders may be no Unicode
    app.run(guarded, flags_parser=partial(_parse, config_type))


def config_overrides(config_type: type) -> dict[str, Any]:
    """The fields of the config that were given as `--config.NAME=VALUE`."""
    values = {f.name: FLAGS[f"config.{f.name}"].value for f in dataclasses.fields(config_type)}
    return {name: value for name, value in values.items() if value is not None}


def grid_values(config_type: type) -> dict[str, tuple]:
    """The values of fields that were given as `--grid.NAME=VALUE,VALUE`, in the fields' order."""
    values = {f.name: FLAGS[f"grid.{f.name}"].value for f in dataclasses.fields(config_type)}
    return {name: given for name, given in values.items() if given is not None}


def _parse(config_type: type | None, argv: list[str]) -> list[str]:
    FLAGS.set_gnu_getopt(True)  # flags may follow other words
    try:
        argv = FLAGS.read_flags_from_files(argv)
        if "algorithm" in FLAGS:
            config_type = _algorithm_of(argv)
        if config_type is not None:
            _define_config_flags(config_type)
        if "sweep_dir" in FLAGS:
            _define_grid_flags(config_type)
        return FLAGS(argv)
    except InputError as error:
        _fail(error)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(FLAGS), n=1)
        hint = f"; did you mean --{near[0]}?" if near else "; see --help"
        _fail(f"there is no flag --{error.flagname}{hint}")
    except flags.Error as error:
        _fail(error)


def _algorithm_of(argv: list[str]) -> type:
    """The config class behind `--algorithm`, which decides what other flags there are."""
    name = FLAGS["algorithm"].default
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == "algorithm":
            name = value if equals else following
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, ALGORITHMS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"there is no algorithm {name!r}{hint} (there are {', '.join(ALGORITHMS)})"
        )
    return ALGORITHMS[name].Config


def _define_config_flags(config_type: type) -> None:
    for field in dataclasses.fields(config_type):
        name = f"config.{field.name}"
        text = f"{field.metadata['help']} (default {_written(field.default)})"
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
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


def _define_grid_flags(config_type: type) -> None:
    for field in dataclasses.fields(config_type):
        name = f"grid.{field.name}"
        flags.DEFINE(_ValuesParser(field), name, None, f"values to try of --config.{field.name}")
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


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
        values = tuple(self._value(text.strip()) for text in argument.split(","))
        alike = [np.float32(value) if self._kind is float else value for value in values]
        if twice := [v for i, v in enumerate(values) if alike[i] in alike[:i]]:
            raise ValueError(f"{_written(twice[0])} comes twice; give each value once")
        return values

    def flag_type(self) -> str:
        return "values"

    def _value(self, text: str) -> Any:
        try:
            if self._kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return tuple(map(int, text.split("x"))) if self._kind is tuple else self._kind(text)
        except (ValueError, LookupError) as error:
            raise ValueError(f"{text!r} is none; give values such as {self._example}") from error


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


def _fail(error: Any, code: int = ERROR_CODE) -> None:
    say(f"error: {' '.join(str(error).split())}")
    sys.exit(code)
