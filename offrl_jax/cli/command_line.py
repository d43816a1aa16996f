"""Starts a command: parses its flags, and turns errors into one line and an exit code."""

import difflib
import inspect
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial

from absl import app, flags, logging

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_algorithm
from offrl_jax.cli.help import help_text, own_flags
from offrl_jax.runs.messages import say
from offrl_jax.runs.outcomes import AlreadyFinished, RunFailed, Stopped

FLAGS = flags.FLAGS
ERROR_CODE = 2
FAILED_CODE = 3  # the run could not be written, or its seeds diverged
STOPPED_CODE = 75  # by a signal, with all saved: BSD's EX_TEMPFAIL, for trying again
READER_GONE_CODE = 141  # as of a program that SIGPIPE kills
HELP = {"--help", "-help", "-h", "-?", "--helpshort", "-helpshort", "--helpfull"}


def launch(main: Callable[..., None], config_type: type | None = None) -> None:
    """Parses the flags and runs `main`, with the words beside the flags if it takes any (`*words`).
    Errors that are no fault of the program become one line and an exit code.

    The fields of `config_type`, or of the config of the algorithm that the command trains, are
    flags too.
    """

    def guarded(argv: list[str]) -> None:
        from offrl_jax.cli.compiled_programs import keep_programs

        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries narrate at INFO
        try:
            words = argv[1:]
            if words and not inspect.signature(main).parameters:
                _fail(f"{words[0]!r} is not a flag; flags look like --num_steps=10000")
            keep_programs()
            main(*words)
        except orl.InputError as error:
            _fail(_spoken(error, main))
        except AlreadyFinished as error:
            print(error)
        except Stopped as error:
            say(_spoken(error, main))
            sys.exit(STOPPED_CODE)
        except RunFailed as error:
            _fail(_spoken(error, main), FAILED_CODE)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of folders may not be Unicode
    try:
        app.run(guarded, flags_parser=partial(_parse, main, config_type))
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE_CODE)


def as_flags(sentence: str, names: Iterable[str], typed: Iterable[str] = ()) -> str:
    """Rewrites a sentence about arguments for flags: `num_seeds=3` becomes `--num_seeds=3`,
    `grid["expectile"]` becomes `--grid.expectile`, `environment=…` becomes `--env_id=…`, and a
    call becomes a command.

    Names without an underscore are English words too and change only before an equals sign.
    Quoted text stays, and so do words of the user that look like a path or an assignment.

    Args:
      sentence: Message of an `InputError`.
      names: The command's flags; the library says NAME for `config.NAME` and `grid.NAME`.
      typed: The words of the command line.
    """
    flag_of: dict[str, str] = {}
    names = list(names)
    for name in sorted(names, key=lambda name: "." not in name):  # plain ones take precedence
        prefix, _, argument = name.rpartition(".")
        if prefix != "grid" or FLAGS[name].present:
            flag_of[argument] = name
    if "env_id" in names:
        flag_of["environment"] = "env_id"
    values = (word.partition("=")[2] if word.startswith("-") else word for word in typed)
    kept = [re.escape(value) for value in values if re.search(r"[/\\=]", value)]
    field = r'\b(?P<group>config|grid)\["(?P<field>\w+)"\]'
    quoted = [r"(?<!\w)'[^']*'", r'"[^"]*"', r"`[^`]*`"]
    name = r"(?<![\w.,/\\~=-])(?P<name>\w+)(?:(?P<equals>=)(?!=)|(?![\w/\\(=-]|\.\w))"

    def translated(found: re.Match) -> str:
        if found["field"] and (flag := f"{found['group']}.{found['field']}") in names:
            return f"--{flag}"
        argument, equals = found["name"], found["equals"]
        if argument in flag_of and (equals or "_" in argument):
            return f"--{flag_of[argument]}{equals or ''}"
        return found[0]

    sentence = re.sub("|".join([*kept, field, *quoted, name]), translated, sentence)
    sentence = sentence.replace("make the same call", "run the same command")
    return sentence.replace("the same call", "the same command")


def _spoken(error: Exception, main: Callable) -> str:
    """The error's message, in terms of the command's flags."""
    own = itertools.chain(*own_flags(inspect.getmodule(main)).values())
    return as_flags(str(error), [flag.name for flag in own], sys.argv[1:])


def _parse(main: Callable, config_type: type | None, argv: list[str]) -> list[str]:
    asks_help = not HELP.isdisjoint(argv)
    FLAGS.set_gnu_getopt(True)  # flags may follow other words
    try:
        argv = FLAGS.read_flags_from_files(argv)
        if "algorithm" in FLAGS and (default := FLAGS["algorithm"].default):  # it trains one
            name = _algorithm_in(argv)
            if name is not None or not asks_help:  # plain help is fast without JAX
                config_type = find_algorithm(name or default).Config
        if config_type is not None:
            from offrl_jax.cli.config_flags import define_config_flags, define_grid_flags

            define_config_flags(config_type)
            if "sweep_dir" in FLAGS:
                define_grid_flags(config_type)
        if not asks_help:
            return FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        group, dot, _ = error.flagname.rpartition(".")  # a shared prefix is no similarity
        names = {name.removeprefix(group + dot): name for name in FLAGS if name.startswith(group)}
        near = difflib.get_close_matches(error.flagname.removeprefix(group + dot), names, n=1)
        hint = f"; did you mean --{names[near[0]]}?" if near else "; see --help"
        _fail(f"there is no flag --{error.flagname}{hint}")
    except flags.Error as error:
        _fail(error)
    except orl.InputError as error:
        _fail(_spoken(error, main))
    print(help_text(main))
    sys.exit()


def _algorithm_in(argv: list[str]) -> str | None:
    """The value of `--algorithm`, which determines the other flags."""
    name = None
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == "algorithm":
            name = value if equals else following
    return name


def _fail(error: object, code: int = ERROR_CODE) -> None:
    say(f"error: {' '.join(str(error).split())}")
    sys.exit(code)
