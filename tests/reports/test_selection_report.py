"""Scores beside returns: what is counted, what is left out, and the figure."""

import numpy as np
import pytest

from offrl_jax.reports import selection

SCORES = {
    "fqe": np.array([1.0, 2.0, 3.0, 4.0]),
    "soft_opc": np.array([np.nan, 3.0, 2.0, 1.0]),
    "td_error": np.array([np.nan, np.nan, np.nan, 1.0]),
}
RETURNS = np.array([10.0, 20.0, 30.0, np.nan])


def test_a_score_is_judged_over_the_policies_that_have_both():
    true_values = {"fqe": np.array([1.5, 2.5, 3.5, np.nan])}
    found = selection.judged(SCORES, RETURNS, true_values)
    assert list(found) == ["fqe", "soft_opc"]
    assert found["fqe"] == pytest.approx(
        {"num_policies": 3, "spearman": 1, "regret@1": 0, "mean_error": -0.5, "slope": 1}
    )
    assert found["soft_opc"]["num_policies"] == 2
    assert found["soft_opc"]["spearman"] == pytest.approx(-1)
    assert found["soft_opc"]["regret@1"] == 1
    assert "slope" not in found["soft_opc"]
    text = selection.markdown(found)
    assert "| FQE | 3 | 1.00 | 0.00 | – | – | -0.50 | 1.00 |" in text
    assert "| soft OPC | 2 | -1.00 | 1.00 | – | – | – | – |" in text


def test_the_figure_is_written_whatever_the_names(tmp_path):
    path = tmp_path / "scores.png"
    selection.plot(path, SCORES, RETURNS, ["a", "a", "b", "b\udcff"], 0, "title\udcff")
    assert path.read_bytes().startswith(b"\x89PNG")
