"""What Markdown says that can be checked: blocks of code, and the commands in them."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[tuple[str, str]]:
    """Modules of `offrl NAME` and of `-m experiments.NAME`, each with the rest of its line, which a
    backslash joins to the next one."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    ours, theirs = r"offrl [a-z][\w-]*", r"python -m experiments[.\w]+"
    found = re.findall(rf"(?:^|[|;&`/(]|exec|srun) ?({ours}|{theirs})(.*)", joined, re.M)
    return [(_module(command), rest) for command, rest in found]


def _module(command: str) -> str:
    name = command.split()[-1]
    return f"offrl_jax.cli.{name.replace('-', '_')}" if command.startswith("offrl ") else name


@functools.cache
def flags_of(module: str) -> list[dict[str, Any]]:
    """Name, default, help and kind of a command's flags, asked in a process of its own: flags are
    global, and commands share their names."""
    code = f"""
import importlib, itertools, json
from offrl_jax.cli.help import own_flags
found = itertools.chain(*own_flags(importlib.import_module("{module}")).values())
keys = "name", "default", "help", "boolean"
print(json.dumps([{{key: getattr(flag, key) for key in keys}} for flag in found]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unknown_flags(module: str, rest: str) -> list[str]:
    """Flags of a command that its module does not define, but for `--help`, `--config.` and
    `--grid.` ones; `--noNAME` is a flag where NAME is a boolean one."""
    if module.startswith("offrl_jax.cli."):
        defined = [flag["name"] for flag in flags_of(module)]
        booleans = [flag["name"] for flag in flags_of(module) if flag["boolean"]]
    else:
        path = ROOT / module.replace(".", "/")
        source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        definition = r"(?:flags\.DEFINE_\w+|parser\.add_argument)\(\s*\"(?:--)?(\w+)\""
        defined = re.findall(definition, source)
        booleans = re.findall(r"flags\.DEFINE_bool\(\s*\"(\w+)\"", source)
    known = {"help", *defined, *(f"no{name}" for name in booleans)}
    given = re.findall(r"(?<= )--(\w[\w.]*)", rest)
    of_fields = r"(no)?config\.|grid\." if "sweep_dir" in known else r"(no)?config\."
    return [flag for flag in given if not (flag in known or re.match(of_fields, flag))]
