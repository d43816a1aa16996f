"""A sweep's runs as one table: which settings scored how, and the best of them with a warning."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.evaluation.statistics import bootstrap_interval, stratified_interval
from offrl_jax.files import replacing, write_json
from offrl_jax.networks.serialization import to_json
from offrl_jax.networks.text import written
from offrl_jax.reports import recorded
from offrl_jax.reports.estimates import NUM_RESAMPLES, IntervalEstimate
from offrl_jax.reports.figures import STYLE
from offrl_jax.reports.table import aligned
from offrl_jax.reports.wording import interval, plural, shown

ALL = "all datasets"


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting on a dataset, or on all of them.

    Attributes:
      dataset: Its name, or `ALL`.
      values: What the grid says of the setting.
      measure: "score", or "return" where the run has no scores.
      scores: Of the last policies by seed, (S,), NaN for seeds without; of all datasets the means.
      mean: Over seeds, with its 95% interval; NaN without any.
      ending: "done" or "failed"; of all datasets together the worst.
      run: Its directory, or its name in memory; None of all datasets.
    """

    dataset: str
    values: dict[str, Any]
    measure: str
    scores: np.ndarray
    mean: IntervalEstimate
    ending: str
    run: Path | None

    @property
    def name(self) -> str:
        return ", ".join(f"{name}={shown_value(v)}" for name, v in self.values.items())


def row_of(dataset: str, values: dict[str, Any], run: recorded.RecordedRun) -> Row:
    """The row of a finished run."""
    measure = "score" if "score" in run.columns else "return"
    scores = run.last(measure)
    judged = scores[~np.isnan(scores)]
    mean = IntervalEstimate(np.nan, np.nan, np.nan)
    if len(judged):
        ends = bootstrap_interval(judged, statistic=np.mean, num_resamples=NUM_RESAMPLES)
        mean = IntervalEstimate(float(judged.mean()), *ends)
    return Row(dataset, values, measure, scores, mean, run.ending, run.path)


def ranked(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each dataset, the highest mean first and those without one last; and where there
    are several datasets, each with scores, those of all together, whose mean is over the datasets'
    means and whose interval resamples the seeds of each."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.dataset, []).append(row)
    if len(found) > 1 and all(row.measure == "score" for row in rows):
        found[ALL] = [_on_all(own) for own in zip(*found.values(), strict=True)]
    return {
        dataset: sorted(own, key=lambda row: -np.nan_to_num(row.mean.value, nan=-np.inf))
        for dataset, own in found.items()
    }


def _on_all(rows: Sequence[Row]) -> Row:
    """Of one setting on every dataset; without a mean if it lacks one somewhere."""
    judged = [row.scores[~np.isnan(row.scores)] for row in rows]
    mean = IntervalEstimate(np.nan, np.nan, np.nan)
    if all(map(len, judged)):
        means = [scores.mean() for scores in judged]
        ends = stratified_interval(
            lambda study: np.mean([scores.mean(-1) for scores in study], axis=0),
            judged,
            num_resamples=NUM_RESAMPLES,
        )
        mean = IntervalEstimate(float(np.mean(means)), *map(float, ends))
    scores = np.stack([row.scores for row in rows]).mean(0)
    ending = max((row.ending for row in rows), key=("done", "failed").index)
    return Row(ALL, rows[0].values, "score", scores, mean, ending, None)


def text(rows: Sequence[Row], next_seed: int) -> str:
    """The tables, with the best of each.

    Args:
      rows: Of every run.
      next_seed: The first that the sweep has not used.
    """
    parts = []
    for dataset, own in ranked(rows).items():
        measure, num_seeds = own[0].measure, len(own[0].scores)
        header = [*own[0].values, f"mean {measure}", "95% interval", "seeds"]
        cells = [
            (
                *map(shown_value, row.values.values()),
                "–" if np.isnan(row.mean.value) else f"{row.mean.value:.1f}",
                "–" if np.isnan(row.mean.value) else interval(row.mean),
                f"{(~np.isnan(row.scores)).sum()} of {num_seeds}",
            )
            for row in own
        ]
        lines = [f"{shown(dataset)}", "", *aligned(header, cells)]
        if not np.isnan(own[0].mean.value):
            lines += ["", _verdict(own, next_seed)]
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts)


def best(rows: Sequence[Row]) -> Row:
    """The best of one dataset's rows, as `ranked` sorts them: of those whose seeds all have a
    score, if there are any."""
    whole = [row for row in rows if not np.isnan(row.scores).any()]
    return [*whole, *rows][0]


def _verdict(rows: Sequence[Row], next_seed: int) -> str:
    row = best(rows)
    verdict = f"best: {row.name or 'the only setting'}, mean {row.measure} {row.mean.value:.1f}"
    if len(rows) == 1:
        return verdict
    return (
        f"{verdict}, chosen from {plural(len(rows), 'setting')} by these very {row.measure}s.\n"
        "The highest of many is high by luck too, so this is no estimate of what the setting is "
        "worth:\n"
        f"train it with other seeds (seed={next_seed}) for a number to report."
    )


def write(folder: Path, rows: Sequence[Row], floats: Sequence[str], next_seed: int) -> str:
    """Leaves table.txt, table.json and, where there is an axis to draw, table.png.

    Args:
      folder: Where.
      rows: Of every run.
      floats: Fields to draw scores against.
      next_seed: As for `text`.

    Returns:
      What table.txt holds.

    Raises:
      OSError: if they cannot be written.
    """
    found = text(rows, next_seed)
    with replacing(folder / "table.txt") as path:
        path.write_text(f"{found}\n", encoding="utf-8", errors="replace")
    write_json(folder / "table.json", [_flat(row) for own in ranked(rows).values() for row in own])
    if drawn := [name for name in floats if len({row.values[name] for row in rows}) > 1]:
        plot(folder / "table.png", rows, drawn)
    return found


def _flat(row: Row) -> dict[str, Any]:
    return {
        "dataset": shown(row.dataset),
        **{name: to_json(value) for name, value in row.values.items()},
        "measure": row.measure,
        "mean": row.mean.value,
        "low": row.mean.low,
        "high": row.mean.high,
        "seeds": int((~np.isnan(row.scores)).sum()),
        "ending": row.ending,
        "run": None if row.run is None else f"runs/{shown(row.run.name)}",
        "scores": row.scores.tolist(),
    }


def plot(path: Path, rows: Sequence[Row], floats: Sequence[str]) -> None:
    """A panel a float setting: the seeds' scores against it, with a line through the means over all
    that is not on the axis; a logarithmic axis where values are positive and span a decade.

    Raises:
      InputError: without matplotlib.
    """
    matplotlib = require("matplotlib", "the figure of a sweep")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(row.dataset for row in rows))
    colors = matplotlib.color_sequences["tab10" if len(datasets) <= 10 else "tab20"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(floats) + 0.6, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(floats), squeeze=False, sharey=True)[0]
        for panel, name in zip(panels, floats, strict=True):
            values = sorted({row.values[name] for row in rows})
            for i, dataset in enumerate(datasets):
                style = {"color": colors[i % len(colors)]}
                at = {
                    value: np.concatenate(
                        [
                            row.scores
                            for row in rows
                            if row.dataset == dataset and row.values[name] == value
                        ]
                    )
                    for value in values
                }
                for value, scores in at.items():
                    panel.plot([value] * len(scores), scores, ".", alpha=0.4, **style)
                means = [np.nanmean(s) if np.isfinite(s).any() else np.nan for s in at.values()]
                panel.plot(values, means, "o-", label=shown(dataset), **style)
            if values[0] > 0 and values[-1] >= 10 * values[0]:
                panel.set_xscale("log")
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
            panel.set_xlabel(name)
        panels[0].set_ylabel(rows[0].measure)
        if len(datasets) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, dpi=150)


def shown_value(value: Any) -> str:
    """As `--grid.NAME` takes it."""
    if isinstance(value, nn.Module):
        return written(value)
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)
