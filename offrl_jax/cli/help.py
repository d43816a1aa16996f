"""What `offrl COMMAND --help` prints: the command's own flags, in groups."""

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from itertools import zip_longest
from types import ModuleType

from absl import flags

FLAGS = flags.FLAGS
WIDTH, INDENT = 100, 32  # columns of a line, and of a flag's name
VALUES = {  # by absl's name of a flag's type
    "bool": "",
    "comma separated list of strings": "=A,B",
    "float": "=X",
    "int": "=N",
    "integers": "=N,N",
    "network": "=NETWORK",
    "string enum": "=NAME",
    "values": "=A,B",
}
GROUPS: dict[str, str] = {}  # flag: title of its group


@contextlib.contextmanager
def section(title: str) -> Iterator[None]:
    """Puts the flags that the block defines under a title."""
    before = set(FLAGS)
    yield
    GROUPS.update((name, title) for name in FLAGS if name not in before)


def own_flags(command: ModuleType) -> dict[str, list[flags.Flag]]:
    """A command's flags by the title of their group; those in no group come last."""
    found: dict[str, list[flags.Flag]] = {}
    for name, title in GROUPS.items():
        found.setdefault(title, []).append(FLAGS[name])
    others = FLAGS.get_key_flags_for_module(command.__name__)
    if others := [flag for flag in others if flag.name not in GROUPS]:
        found["flags"] = others
    return found


def help_text(main: Callable) -> str:
    """The description of the module of `main`, then the flags with their defaults."""
    module = inspect.getmodule(main)
    parts = [inspect.cleandoc(module.__doc__)]
    for title, found in own_flags(module).items():
        parts.append("\n".join([f"{title}:", *map(_described, found)]))
    return "\n\n".join(parts)


def _described(flag: flags.Flag) -> str:
    negation = "[no]" if flag.boolean else ""
    name = f"  --{negation}{flag.name}{VALUES.get(flag.flag_type(), '=TEXT')}"
    text = flag.help
    if flag.default_as_str not in (None, "'false'", "''"):
        text += f" (default: {flag.default_as_str[1:-1]})"
    rows = textwrap.wrap(text, WIDTH - INDENT)
    if len(name) >= INDENT:
        rows.insert(0, "")
    columns = zip_longest([name], rows, fillvalue="")
    return "\n".join(f"{left:{INDENT}}{right}".rstrip() for left, right in columns)
