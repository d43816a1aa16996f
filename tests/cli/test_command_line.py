import io
import sys

import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.cli import train  # noqa: F401  (defines the flags)
from offrl_jax.cli.command_line import FAILED_CODE, _algorithm_of, _fail
from offrl_jax.types import InputError


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "cql"),
        (["--num_steps=5"], "cql"),
        (["--algorithm=bc"], "bc"),
        (["-algorithm", "bc", "--seed=1"], "bc"),
        (["--algorithm=bc", "--algorithm=sac"], "sac"),
    ],
)
def test_the_algorithm_is_found_before_its_flags_are_defined(arguments, name):
    assert _algorithm_of(["train", *arguments]) is ALGORITHMS[name].Config


def test_a_flag_without_its_value_is_no_algorithm():
    with pytest.raises(InputError, match="no algorithm"):
        _algorithm_of(["train", "--algorithm"])


def test_an_exit_code_is_told_though_nobody_reads_the_sentence(monkeypatch):
    class Unread(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Unread())
    with pytest.raises(SystemExit) as exit:
        _fail("no room", FAILED_CODE)
    assert exit.value.code == FAILED_CODE
