"""What is computed differently on each backend, for speed alone, and what was measured."""

import jax

ROWS_AT_ONCE = {"cpu": 512}


def rows_at_once() -> int | None:
    """Rows of (state, action) that a network should take at a time; None for all there are."""
    return ROWS_AT_ONCE.get(jax.default_backend())
