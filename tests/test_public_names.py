"""`import offrl_jax` is quick, and every public name is there when it is used."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import offrl_jax

SOURCE = ast.parse(Path(offrl_jax.__file__).read_text())


@pytest.mark.parametrize("name", offrl_jax.__all__)
def test_a_public_name_is_found_when_it_is_used(name):
    assert name in dir(offrl_jax)
    value = getattr(offrl_jax, name)
    assert getattr(value, "__name__", name).endswith(name)


def test_type_checkers_see_what_programs_see():
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If))
    seen = {
        alias.name: f"{node.module}.{alias.name}" for node in block.body for alias in node.names
    }
    loaded = {name: f"offrl_jax.{module}.{name}" for name, module in offrl_jax._MODULE_OF.items()}
    loaded |= {name: f"offrl_jax.{name}" for name in offrl_jax._MODULES}
    assert seen == loaded and sorted(seen) == sorted(offrl_jax.__all__)
    assert Path(offrl_jax.__file__).with_name("py.typed").exists()


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; did you mean train\?"):
        offrl_jax.trian  # noqa: B018
    assert dir(offrl_jax) == sorted(offrl_jax.__all__)


def test_importing_the_package_leaves_jax_for_later():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys, offrl_jax; assert not {'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.8
