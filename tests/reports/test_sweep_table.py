import json
import math

import numpy as np
import pytest

from offrl_jax.reports import recorded, sweep
from tests.fabricated_runs import DATASET, write_run

GAINS = {  # setting: scores by seed
    1.0: [40.0, 60.0, 50.0],
    10.0: [90.0, 70.0, 80.0],
    100.0: [10.0, 30.0, 20.0],
}


def row_of(dataset, values, path):
    return sweep.row_of(dataset, values, recorded.read(path))


def made(folder, dataset="task", shift=0.0, **options):
    rows = []
    for gain, scores in GAINS.items():
        path = write_run(
            folder / f"{dataset},gain={gain:g}",
            [np.zeros(3), np.add(scores, shift)],
            dataset=DATASET | {"name": dataset},
            **options,
        )
        rows.append(row_of(dataset, {"gain": gain, "sizes": (8, 8)}, path))
    return rows


def test_a_row_has_the_mean_of_the_last_scores_and_its_interval(tmp_path):
    row = made(tmp_path)[1]
    assert row.measure == "score" and row.mean.value == 80.0 and row.ending == "done"
    assert row.mean.low == pytest.approx(70.0) and row.mean.high == pytest.approx(90.0)
    assert row.name == "gain=10, sizes=8x8"


def test_the_table_is_sorted_and_names_the_best_with_its_bias(tmp_path):
    text = sweep.text(made(tmp_path), next_seed=3)
    lines = text.splitlines()
    assert lines[0] == "task" and lines[2].split()[:2] == ["gain", "sizes"]
    assert [line.split()[:3] for line in lines[3:6]] == [
        ["10", "8x8", "80.0"],
        ["1", "8x8", "50.0"],
        ["100", "8x8", "20.0"],
    ]
    assert "70.0 to 90.0" in lines[3] and "3 of 3" in lines[3]
    assert "best: gain=10, sizes=8x8, mean score 80.0, chosen from 3 settings" in text
    assert "high by luck" in text and "(seed=3)" in text


def test_diverged_seeds_are_counted_and_settings_without_scores_come_last(tmp_path):
    rows = made(tmp_path)
    none = write_run(
        tmp_path / "lost",
        [[np.nan] * 3],
        ending="FAILED.json",
        diverged=["loss is nan"] * 3,
    )
    one = write_run(tmp_path / "one", [[99.0, np.nan, np.nan]], diverged=[None, "x", "x"])
    lost = row_of("task", {"gain": 0.0, "sizes": (8, 8)}, none)
    lucky = row_of("task", {"gain": 2.0, "sizes": (8, 8)}, one)
    lines = sweep.text([lost, *rows, lucky], 3).splitlines()
    assert "99.0" in lines[3] and "1 of 3" in lines[3] and "one seed" in lines[3]
    assert lines[7].split() == ["0", "8x8", "–", "–", "0", "of", "3"]
    assert lost.ending == "failed"
    assert "best: gain=10," in lines[9]  # which no seed of has diverged
    assert "best: gain=2," in sweep.text([lost, lucky], 3)  # there is none of those


def test_over_several_datasets_the_means_of_each_are_averaged(tmp_path):
    rows = made(tmp_path, "easy", 100.0) + made(tmp_path, "hard", -10.0)
    found = sweep.ranked(rows)
    assert list(found) == ["easy", "hard", sweep.ALL]
    best = found[sweep.ALL][0]
    assert best.values["gain"] == 10.0 and best.mean.value == (180.0 + 70.0) / 2
    assert best.mean.low < best.mean.value < best.mean.high
    easy, hard = (found[name][0].mean for name in ("easy", "hard"))
    width = best.mean.high - best.mean.low  # of a mean of two independent means
    assert width < 0.5 * (easy.high - easy.low + hard.high - hard.low)
    assert sweep.text(rows, 3).count("chosen from 3 settings") == 3


def test_files_hold_the_same_as_the_text(tmp_path):
    rows = made(tmp_path)
    text = sweep.write(tmp_path, rows, ["gain"], 3)
    assert (tmp_path / "table.txt").read_text() == f"{text}\n"
    found = json.loads((tmp_path / "table.json").read_text())
    assert [row["gain"] for row in found] == [10.0, 1.0, 100.0]
    assert found[0]["sizes"] == [8, 8] and found[0]["mean"] == 80.0
    assert found[0]["run"] == "runs/task,gain=10"
    assert [row["scores"] for row in found] == [GAINS[10.0], GAINS[1.0], GAINS[100.0]]
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_without_an_axis_there_is_no_figure(tmp_path):
    sweep.write(tmp_path, made(tmp_path)[:1], ["gain"], 3)
    assert not (tmp_path / "table.png").exists()


def test_runs_without_evaluations_have_no_best(tmp_path):
    path = write_run(tmp_path / "run", np.zeros((0, 2)))
    row = row_of("task", {"gain": 1.0}, path)
    assert math.isnan(row.mean.value)
    assert "best" not in sweep.text([row], 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [((8, 16), "8x16"), (1e-4, "0.0001"), (5.0, "5"), (True, "true"), (3, "3"), ("v2", "v2")],
)
def test_values_are_shown_as_they_are_given(value, text):
    assert sweep.shown_value(value) == text
