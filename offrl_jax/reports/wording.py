"""Words and numbers of reports."""

import math

from offrl_jax.reports.estimates import IntervalEstimate


def plural(count: int, noun: str) -> str:
    """As in 1 seed, 2 seeds."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shown(name: str) -> str:
    """With ? for what is not Unicode, such as stray bytes in a folder's name."""
    return name.encode(errors="replace").decode()


def interval(estimate: IntervalEstimate, form: str = ".1f", without: str = "one seed") -> str:
    """Its ends, or why it has none."""
    if math.isnan(estimate.low):
        return without
    return f"{estimate.low:{form}} to {estimate.high:{form}}"
