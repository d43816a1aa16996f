"""Without matplotlib, figures are refused in a sentence that names it."""

import sys

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.cli import report
from offrl_jax.data.card import card
from offrl_jax.reports import dataset_card, figures, selection, value_bias
from offrl_jax.reports.estimates import IntervalEstimate
from offrl_jax.types import InputError
from tests import commands
from tests.fabricated_runs import write_run

SENTENCE = r'needs matplotlib, which does not import here \(.*\); pip install "matplotlib"'


@pytest.fixture(autouse=True)
def absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def card_page(path):
    arrays = np.zeros((9, 2)), np.zeros((9, 1)), np.ones(9), np.ones(9)
    dataset_card.page(card(data.dataset_from_arrays(*arrays), time_limit=None))


def bias(path):
    values = np.zeros((1, 2))
    curve = value_bias.Curve("bc", [1], values, values, values, "score")
    value_bias.plot(path, [curve], "title")


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: figures.aggregate(
            "a", "mean", {"bc": IntervalEstimate(1.0, 0.0, 2.0)}, ["bc"]
        ),
        lambda path: figures.strip("s", "alt", [np.zeros((4, 4, 3), np.uint8)]),
        lambda path: selection.plot(path, {"fqe": np.ones(1)}, np.ones(1), ["a"], 0, "title"),
        bias,
        card_page,
    ],
    ids=["panel", "strip", "scores of policies", "value bias", "dataset card"],
)
def test_a_figure_names_what_it_needs(tmp_path, draw):
    with pytest.raises(InputError, match=SENTENCE):
        draw(tmp_path / "figure.png")


def test_a_report_is_refused_in_one_line(tmp_path):
    run = write_run(tmp_path / "a", [[1.0, 2.0]])
    done = commands.run(report, str(run), f"--output={tmp_path / 'r'}")
    assert done["code"] == 2 and done["err"].count("\n") == 1
    assert "a report of runs needs matplotlib" in done["err"]
    assert not (tmp_path / "r").exists()
