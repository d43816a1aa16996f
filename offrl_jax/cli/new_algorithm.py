"""Writes a short, complete algorithm of your own, NAME.py, and its test into the current folder.

  offrl new-algorithm mine
  offrl new-algorithm my_algorithm
  offrl new-algorithm weighted_cloning

The file holds behaviour cloning, with comments on what to change. Files that exist stay.
"""

import importlib.util
import keyword
from pathlib import Path

import offrl_jax as orl
from offrl_jax.algorithms import NAMES
from offrl_jax.cli.command_line import launch

TEST = '''"""{name} keeps the contract of an algorithm. Test its losses here too."""

from {name} import {name}
from offrl_jax.testing import check_algorithm


def test_{name}_keeps_the_contract():
    check_algorithm({name})


if __name__ == "__main__":
    test_{name}_keeps_the_contract()
'''
NEXT = """{name}.py, test_{name}.py

  python test_{name}.py
  offrl train --algorithm={name}:{name} --num_steps=1000
  offrl train --algorithm={name}:{name} --help
"""


def main(*names: str) -> None:
    if len(names) != 1:
        raise orl.InputError(f"{len(names)} names are given; give one, such as mine")
    (name,) = names
    files = Path(f"{name}.py"), Path(f"test_{name}.py")
    _check(name, files)
    template = Path(__file__).with_name("template.py").read_text(encoding="utf-8")
    title = "".join(part.capitalize() for part in name.split("_"))
    algorithm = template.replace("Template", title).replace("template", name)
    texts = algorithm.replace("NAME: what", f"{name}: what"), TEST.format(name=name)
    try:
        for path, text in zip(files, texts, strict=True):
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise orl.InputError(
            f"{path} cannot be written ({error}); run the command in another folder"
        ) from error
    print(NEXT.format(name=name), end="")


def _check(name: str, files: tuple[Path, ...]) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise orl.InputError(
            f"{name!r} is not a name of a Python module; give lower-case letters, digits and "
            "underscores, such as my_algorithm"
        )
    for path in files:
        if path.exists():
            raise orl.InputError(f"{path} exists already; give another name, or move the file")
    if name in NAMES or importlib.util.find_spec(name) is not None:
        kind = "an algorithm" if name in NAMES else "a Python module"
        raise orl.InputError(f"there is {kind} named {name!r} already; give another name")


if __name__ == "__main__":
    launch(main)
