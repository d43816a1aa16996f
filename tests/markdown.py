"""What Markdown says that can be checked: blocks of code, and the commands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[tuple[str, str]]:
    """Modules of `offrl NAME` and of `-m experiments.NAME`, each with the rest of its line, which a
    backslash joins to the next one."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    found = re.findall(
        r"(?:^|[|;&`/(]|exec|srun) ?(offrl [a-z]\w*|python -m experiments[.\w]+)(.*)", joined, re.M
    )
    return [(re.sub(r"^offrl ", "offrl_jax.cli.", n).split()[-1], rest) for n, rest in found]


def unknown_flags(module: str, rest: str) -> list[str]:
    """Flags of a command that its module does not define, but for `--help`, `--config.` and
    `--grid.` ones; `--noNAME` is a flag where NAME is a boolean one."""
    path = ROOT / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    for name in re.findall(r"adopt_module_key_flags\((\w+)\)", source):
        source += (ROOT / f"offrl_jax/cli/{name}.py").read_text()
    defined = re.findall(r"(?:flags\.DEFINE_\w+|parser\.add_argument)\(\s*\"(?:--)?(\w+)\"", source)
    booleans = re.findall(r"flags\.DEFINE_bool\(\s*\"(\w+)\"", source)
    known = {"help", *defined, *(f"no{name}" for name in booleans)}
    given = re.findall(r"(?<= )--(\w[\w.]*)", rest)
    of_fields = r"(no)?config\.|grid\." if "sweep_dir" in known else r"(no)?config\."
    return [flag for flag in given if not (flag in known or re.match(of_fields, flag))]
