"""Compares the speed of two or more commands, commits or sets of XLA's flags, side by side.

  python -m experiments.benchmarks.compare --commits=HEAD~1,HEAD --algorithms=iql,cql
  python -m experiments.benchmarks.compare --flags="|--xla_cpu_enable_fast_math=true"
  python -m experiments.benchmarks.compare --side="ours=python a.py" --side="theirs=python b.py"

A side is a command that prints lines like {"algorithm": "iql", "updates_per_second": 320.5}. They
alternate, A B, B A, A B and so on, so that other load on the machine affects all of them alike,
and each is compared with the first of the same turn. Prints a Markdown table.
"""

import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.runs.messages import say
from offrl_jax.runs.outcomes import RunFailed
from offrl_jax.types import InputError

flags.DEFINE_multi_string("side", [], "NAME=COMMAND, twice or more")
flags.DEFINE_list("commits", [], "of this repository, whose benchmark is run; instead of sides")
flags.DEFINE_string(
    "flags", None, "sets of XLA_FLAGS for the benchmark, separated by |; instead of sides"
)
flags.DEFINE_list("algorithms", ["bc", "td3_bc", "iql", "cql"], "for commits and flags")
flags.DEFINE_integer("repeats", 5, "turns of all sides", 1)


class Side(NamedTuple):
    """What is measured: a command, where it runs, and what it finds in its environment."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


Rates = Mapping[str, float]  # updates a second by algorithm


def main() -> None:
    if bool(FLAGS.side) + bool(FLAGS.commits) + (FLAGS.flags is not None) != 1:
        raise InputError("give either sides, commits or flags to compare")
    with contextlib.ExitStack() as stack:
        if FLAGS.commits:
            sides = [stack.enter_context(_of_commit(commit)) for commit in FLAGS.commits]
        elif FLAGS.side:
            sides = [_of_command(text) for text in FLAGS.side]
        else:
            sides = [_of_xla_flags(text.strip()) for text in FLAGS.flags.split("|")]
        names = [side.name for side in sides]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise InputError(f"the sides are {', '.join(names)}; give two or more different ones")
        turns = _turns(sides, FLAGS.repeats)
    print(table(turns))


def _of_command(text: str) -> Side:
    name, equals, command = text.partition("=")
    if not (name and equals and command.strip()):
        raise InputError(f"side={text} is not NAME=COMMAND")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"side={text} is no command ({error})") from error
    return Side(name, words, Path.cwd(), os.environ)


def _of_xla_flags(text: str) -> Side:
    given = f"{os.environ.get('XLA_FLAGS', '')} {text}".strip()
    environment = {**os.environ, "XLA_FLAGS": given}
    return Side(text or "as it is", _benchmark(), Path.cwd(), environment)


@contextlib.contextmanager
def _of_commit(commit: str) -> Iterator[Side]:
    """A side in a checkout of the commit, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="offrl-jax-") as parent:
        folder = Path(parent) / "checkout"
        try:
            _git("worktree", "add", "--detach", str(folder), commit)
            yield Side(commit, _benchmark(), folder, os.environ)
        finally:
            with contextlib.suppress(InputError):  # there may be none yet
                _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"git {arguments[0]} did not work: {_last_line(done.stderr)}")


def _benchmark() -> list[str]:
    algorithms = f"--algorithms={','.join(FLAGS.algorithms)}"
    return [sys.executable, "-m", "experiments.benchmarks.speed", "--quick", "--json", algorithms]


def _turns(sides: Sequence[Side], repeats: int) -> list[dict[str, Rates]]:
    """What each side printed in every turn, by its name."""
    turns = []
    for turn in range(repeats):
        order = sides if turn % 2 == 0 else sides[::-1]
        rates = {}
        for side in order:
            rates[side.name] = _run(side)
            shown = ", ".join(f"{name} {rate:,.1f}" for name, rate in rates[side.name].items())
            say(f"{turn + 1} of {repeats}, {side.name}: {shown}")
        turns.append({side.name: rates[side.name] for side in sides})
        _common(turns)  # or the other turns would be for nothing
    return turns


def _common(turns: Sequence[Mapping[str, Rates]]) -> list[str]:
    """The algorithms that every side measured in every turn.

    Raises:
      InputError: if they have none in common.
    """
    measured = [rates for turn in turns for rates in turn.values()]
    algorithms = [name for name in measured[0] if all(name in rates for rates in measured)]
    if not algorithms:
        raise InputError(f"no algorithm was measured by each of {', '.join(turns[0])}")
    return algorithms


def _run(side: Side) -> Rates:
    """Runs a side once.

    Raises:
      RunFailed: if its command cannot be run, or fails.
    """
    try:
        done = subprocess.run(
            side.command, cwd=side.folder, env=side.environment, capture_output=True, text=True
        )
    except OSError as error:
        raise RunFailed(f"side {side.name} cannot be run ({error})") from error
    if done.returncode:
        raise RunFailed(
            f"side {side.name} ended with exit code {done.returncode}: {_last_line(done.stderr)}"
        )
    rates = {}
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # it may print other things too
            row = json.loads(line)
            name, rate = row["algorithm"], float(row["updates_per_second"])
            if name in rates:
                raise RunFailed(f"side {side.name} measured {name} twice; give one case of each")
            if rate > 0:
                rates[name] = rate
    return rates


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def table(turns: Sequence[Mapping[str, Rates]]) -> str:
    """A row an algorithm: each side's median, and medians of the ratios to the first side in the
    same turn, with the lowest and the highest.

    Args:
      turns: Of each, the sides' updates a second by algorithm, the sides in order.

    Raises:
      InputError: if the sides have no algorithm in common.
    """
    first, *others = turns[0]
    algorithms = _common(turns)
    columns = ["algorithm", *(f"{side}, updates/s" for side in turns[0])]
    columns += [f"{side} / {first} (lowest to highest)" for side in others]
    lines = [columns, ["---"] * len(columns)]
    for name in algorithms:
        rates = {side: [turn[side][name] for turn in turns] for side in turns[0]}
        cells = [name, *(f"{statistics.median(values):,.1f}" for values in rates.values())]
        for side in others:
            ratios = [x / y for x, y in zip(rates[side], rates[first], strict=True)]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            cells.append(f"{statistics.median(ratios):.3f} ({spread})")
        lines.append(cells)
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\nMedians of {len(turns)} turns; ratios are of the same turn."


if __name__ == "__main__":
    launch(main)
