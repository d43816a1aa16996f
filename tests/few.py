"""What the default run takes of many alike; `-m slow` takes the others."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

CORE = (  # those that need a page, presets and operations counted by hand, beside the contract
    *("bc", "sac", "qt_opt", "bcq", "bear", "brac", "td3_bc", "rebrac"),
    *("awr", "awac", "crr", "abm", "marwil", "iql", "cql", "edac"),
    *("dqn", "bcq_discrete", "cql_discrete"),
)
# An algorithm of each structural kind: one phase of equal updates, a delayed actor, a model of the
# behaviour first, data that are relabelled, discrete actions.
STRUCTURES = ("bc", "td3_bc", "brac", "awr", "dqn")


def few(cases: Mapping[str, Any] | Collection[str], default: Collection[str]) -> list:
    """The cases by name, marked slow but for the default ones."""
    assert set(default) <= set(cases), default
    return [
        pytest.param(
            cases[name] if isinstance(cases, Mapping) else name,
            id=name,
            marks=() if name in default else pytest.mark.slow,
        )
        for name in cases
    ]
