"""The over-estimation table's numbers, its text and its figure."""

import warnings

import numpy as np
import pytest
from matplotlib import image

from offrl_jax.reports.value_bias import Curve, markdown, plot, table


def curve(method, learned, actual, judged=None, judged_by="score"):
    learned, actual = np.asarray(learned, float), np.asarray(actual, float)
    judged = np.full(learned.shape, 50.0) if judged is None else np.asarray(judged, float)
    step = [100 * (i + 1) for i in range(len(learned))]
    return Curve(method, step, learned, actual, judged, judged_by)


ACTUAL = [[0.0] * 4, [10.0, 20.0, 30.0, 40.0]]
CAUTIOUS = curve(
    "Cautious", [[9.0] * 4, [8.0, 18.0, 28.0, 38.0]], ACTUAL, [[0.0] * 4, [1, 2, 3, 9]]
)
NAIVE = curve("Naive", [[0.0] * 4, [1e6, 2e6, 3e6, 4e6]], [[0.0] * 4, [0.0] * 4])
LOST = curve("Lost", [[1.0] * 4, [np.nan] * 4], ACTUAL)
ONE_SEED = curve("One seed", [[1.0], [3.5]], [[1.0], [1.0]])


def test_one_diverged_seed_of_many_is_not_averaged_away():
    (row,) = table([curve("Lost", [[1.0] * 4, [1.0, 2.0, 3.0, np.nan]], ACTUAL)])
    assert np.isnan(row["learned"]) and np.isnan(row["difference"])
    assert row["actual"] == 25.0


def test_rows_are_means_of_the_last_evaluation():
    cautious, naive, lost, alone = table([CAUTIOUS, NAIVE, LOST, ONE_SEED])
    assert cautious == {
        "method": "Cautious",
        "learned": 23.0,
        "actual": 25.0,
        "difference": -2.0,
        "low": -2.0,
        "high": -2.0,
        "judged": 3.75,
        "judged_by": "score",
    }
    assert naive["difference"] == 2.5e6
    assert 1e6 <= naive["low"] < 2.5e6 < naive["high"] <= 4e6
    assert np.isnan(lost["learned"]) and np.isnan(lost["difference"]) and lost["actual"] == 25
    assert alone["difference"] == 2.5 and np.isnan(alone["low"]) and np.isnan(alone["high"])


def test_one_seed_that_blew_up_is_not_trimmed_away():
    (row,) = table([curve("m", [[0.0, 0.0, 0.0, 900.0]], [[0.0] * 4])])
    assert row["difference"] == 225.0 and row["high"] > 225.0


def test_markdown_shows_signs_and_large_numbers():
    header, rule, *lines = markdown([CAUTIOUS, NAIVE, LOST, ONE_SEED]).splitlines()
    assert header == "| method | learned | actual | learned − actual | 95% interval | score |"
    assert rule.count("---") == 6
    assert lines[0] == "| Cautious | 23.00 | 25.00 | -2.00 | -2.00 to -2.00 | 3.8 |"
    cells = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert cells[:4] == ["Naive", "2.50e+06", "0.00", "+2.50e+06"]
    assert cells[4].startswith("+1.") and " to +" in cells[4]
    assert lines[2] == "| Lost | diverged | 25.00 | diverged | – | 50.0 |"
    assert lines[3] == "| One seed | 3.50 | 1.00 | +2.50 | – | 50.0 |"
    assert "| return |" in markdown([curve("m", [[1.0]], [[1.0]], judged_by="return")])


@pytest.mark.parametrize(
    "curves",
    [
        [CAUTIOUS, NAIVE],
        [CAUTIOUS, LOST],
        [LOST],
        [ONE_SEED],
        [curve("Only", [[1.0, 2.0]], [[0.0, 0.0]])],
        [curve(f"m{i}", [[i, 2.0 * i]] * 2, [[0.0, 0.0]] * 2) for i in range(14)],
    ],
    ids=["usual", "one diverged", "all diverged", "one seed", "one evaluation", "many"],
)
def test_the_figure_is_readable(tmp_path, curves):
    path = tmp_path / "figure.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot(path, curves, "title")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 10_000
    height, width, _ = image.imread(path).shape
    assert (width, height) == (1950, max(675, 75 * len(curves)))
