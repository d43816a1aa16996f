"""The page's examples run."""

import pytest

from tests.markdown import ROOT, code_blocks
from tests.safety.test_safe_learning import TINY

SMALLER = {
    'SafetyConfig(**METHODS["csc"][1])': 'SafetyConfig(**METHODS["csc"][1] | TINY)',
    "num_worlds=8": "num_worlds=2",
    "num_iterations=10": "num_iterations=1",
}


@pytest.mark.slow
def test_the_examples_of_the_page_run(capsys):
    pytest.importorskip("mujoco")
    names = {"TINY": TINY}
    text = (ROOT / "docs/safety.md").read_text()
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    for block in code_blocks(text, "python"):
        exec(block, names)
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert names["policy"](names["np"].zeros(3)).shape == (2,)
