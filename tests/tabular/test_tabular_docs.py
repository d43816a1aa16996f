"""The examples of the documentation print what it says, and its table names what there is."""

import re

import pytest

from offrl_jax import tabular
from tests.markdown import ROOT, code_blocks

PAGE = (ROOT / "docs/tabular.md").read_text()


def test_the_pages_example_prints_what_the_page_says(capsys):
    (example,), (printed,) = code_blocks(PAGE, "python"), code_blocks(PAGE, "text")
    exec(example, {})
    assert capsys.readouterr().out == printed


def test_the_readmes_example_runs(capsys):
    (example,) = (
        block
        for block in code_blocks((ROOT / "README.md").read_text(), "python")
        if "import tabular" in block
    )
    exec(example, {})
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    "name", re.findall(r"`(\w+)`", PAGE.partition("## Equations")[2].partition("CQL's weights")[0])
)
def test_functions_of_the_table_exist(name):
    assert name in tabular.__all__
