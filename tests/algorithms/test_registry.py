"""The registry: names are files, and a lookup imports one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from offrl_jax import ALGORITHMS, InputError, algorithms

FOLDER = Path(algorithms.__file__).parent


def test_names_are_those_of_the_files():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "states"}
    assert set(ALGORITHMS) == files and len(ALGORITHMS) == len(files)
    assert all(algorithm.name == name for name, algorithm in ALGORITHMS.items())


def test_a_lookup_imports_that_algorithm_alone_and_its_module_keeps_its_name():
    code = """
import sys
from offrl_jax import ALGORITHMS
assert "cql" in ALGORITHMS and "jax" not in sys.modules
found = ALGORITHMS["cql"]
ours = {m for m in sys.modules if m.startswith("offrl_jax.algorithms.")}
assert "offrl_jax.algorithms.cql" in ours and "offrl_jax.algorithms.bc" not in ours
from offrl_jax.algorithms import cql
assert cql is sys.modules["offrl_jax.algorithms.cql"] and cql.cql is found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_that_does_not_exist_is_refused_with_the_nearest():
    assert "cq1" not in ALGORITHMS and ALGORITHMS.get("cq1") is None
    for kind in (InputError, KeyError):
        with pytest.raises(kind) as error:
            ALGORITHMS["cq1"]
        assert str(error.value).startswith("there is no algorithm 'cq1'; did you mean cql? (")
