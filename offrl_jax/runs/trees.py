"""Pytrees as named arrays."""

from typing import Any

import jax


def named_leaves(tree: Any, separator: str = "/") -> list[tuple[str, Any]]:
    """Each leaf with its path, such as actor/params/Dense_0/kernel."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator=separator), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
