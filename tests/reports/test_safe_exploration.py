"""The table of accidents where there are none."""

import numpy as np

from offrl_jax.reports.safe_exploration import Curve, markdown, table


def curve(method, *accidents):
    """Of seeds that had so many in the one iteration."""
    found = np.array(accidents, float)
    each = found[:, None]
    return Curve(method, each, each + 10.0, each, np.zeros_like(found), found, found)


def test_there_is_no_ratio_to_zero_accidents():
    curves = [curve("none", 0, 0), curve("some", 4, 4), curve("at times", 0, 2)]
    rows = table(curves, "some")
    none, some, at_times = (row["fewer"] for row in rows)
    assert np.isnan([none.mean, none.low, none.high]).all() and str(none) == "–"
    assert (some.mean, some.low, some.high) == (1, 1, 1)
    assert at_times.mean == 4 and np.isnan([at_times.low, at_times.high]).all()
    assert markdown(rows, "some").splitlines()[2].endswith("| 0 (0 to 0) | – |")
    assert str(table(curves, "none")[0]["fewer"]) == "–"
