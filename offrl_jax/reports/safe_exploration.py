"""Accidents while learning, and what the policies that came of it are worth.

Source: Bharadhwaj et al. 2021, arXiv:2010.14497, the quantities of its figures 2 and 3.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.evaluation.statistics import bootstrap_interval, stratified_interval

COLUMNS = ("method", "accidents", "share", "return", "final_accidents", "fewer")
WINDOW = 5  # iterations that the curves of single ones are averaged over
LINES = ("solid", (0, (5, 1)), (0, (1, 1)), (0, (4, 4)))  # curves may lie on one another

Style = dict[str, Any]  # of a method: "color" and "linestyle"


@dataclasses.dataclass(frozen=True)
class Curve:
    """What S seeds of a method did in T iterations.

    Attributes:
      method: Its name.
      accidents: In each iteration, (S, T).
      episodes: That ended in each iteration, (S, T).
      episode_return: Their mean return, (S, T), NaN where none ended.
      random_accidents: Of the random actions before the first iteration, (S,).
      final_return: Of the last policy, acting by its mode, (S,).
      final_accidents: The share of its episodes that ended in an accident, (S,).
    """

    method: str
    accidents: np.ndarray
    episodes: np.ndarray
    episode_return: np.ndarray
    random_accidents: np.ndarray
    final_return: np.ndarray
    final_accidents: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Accidents altogether, (S,)."""
        return self.random_accidents + self.accidents.sum(1)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95% interval, NaN for one seed; a ratio is NaN too where what it
    divides by is zero, and its ends where that is so of a resample."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        shown = [_short(x) for x in (self.mean, self.low, self.high)]
        return shown[0] if np.isnan(self.low) else f"{shown[0]} ({shown[1]} to {shown[2]})"


def table(curves: Sequence[Curve], reference: str | None = None) -> list[dict[str, Any]]:
    """A row a method: all accidents, the share of episodes that ended in one, the last policy's
    return and share of accidents, and the ratio of the accidents of the method named `reference`
    to its own (NaN where it had none), each a mean over seeds with its interval."""
    against = next((c.total for c in curves if c.method == reference), None)
    rows = []
    for curve in curves:
        share = curve.accidents.sum(1) / np.maximum(curve.episodes.sum(1), 1)
        values = curve.total, share, curve.final_return, curve.final_accidents
        intervals = [_interval(x) for x in values]
        fewer = None if against is None else _ratio(against, curve.total)
        rows.append(dict(zip(COLUMNS, (curve.method, *intervals, fewer), strict=True)))
    return rows


def markdown(rows: Sequence[dict[str, Any]], reference: str | None = None) -> str:
    """`table` as a Markdown table."""
    versus = f" | accidents of {reference} / its own" if rows[0]["fewer"] is not None else ""
    lines = [
        "| method | accidents in training | share of episodes | final return | final share of "
        f"accidents{versus} |",
        "|---" * (5 + bool(versus)) + "|",
    ]
    for row in rows:
        cells = [str(row[name]) for name in COLUMNS if row[name] is not None]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_accidents(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Accidents so far and in each iteration: means over seeds with 95% intervals.

    Raises:
      InputError: without matplotlib.
    """

    def draw(axes: Any, styles: Sequence[Style]) -> None:
        so_far, each = axes
        for curve, style in zip(curves, styles, strict=True):
            total = curve.random_accidents[:, None] + curve.accidents.cumsum(1)
            steps = 1 + np.arange(total.shape[1])
            _band(so_far, steps, total, style, curve.method)
            smooth = _smoothed(curve.accidents)
            _band(each, steps[-smooth.shape[1] :], smooth, style, curve.method)
        so_far.set(xlabel="iterations", ylabel="accidents so far")
        so_far.set_yscale("symlog", linthresh=10)
        so_far.set_ylim(0, None)
        so_far.legend(frameon=False, fontsize=8)
        each.set(xlabel="iterations", ylabel=f"accidents an iteration, mean of {WINDOW}")
        each.set_yscale("symlog", linthresh=1)
        each.set_ylim(0, None)

    _figure(path, title, len(curves), draw, "the figure of accidents")


def plot_value_and_safety(path: Path, curves: Sequence[Curve], title: str) -> None:
    """The last policies' return over the accidents that they took, a point a seed and a cross of
    intervals a method; and the return of training's episodes.

    Raises:
      InputError: without matplotlib.
    """

    def draw(axes: Any, styles: Sequence[Style]) -> None:
        end, way = axes
        for curve, style in zip(curves, styles, strict=True):
            color = style["color"]
            x, y = _interval(curve.total), _interval(curve.final_return)
            end.plot(curve.total, curve.final_return, ".", color=color, alpha=0.5)
            end.plot([x.low, x.high], [y.mean, y.mean], color=color, linewidth=2)
            end.plot([x.mean, x.mean], [y.low, y.high], color=color, linewidth=2)
            end.plot(x.mean, y.mean, "o", color=color, label=curve.method)
            steps = 1 + np.arange(curve.accidents.shape[1])
            _band(way, steps, curve.episode_return, style, curve.method)
        end.set(xlabel="accidents in training", ylabel="return of the last policy")
        end.set_xscale("symlog", linthresh=10)
        end.set_xlim(0, None)
        end.legend(frameon=False, fontsize=8, loc="lower left")
        way.set(xlabel="iterations", ylabel="return of training's episodes")

    _figure(path, title, len(curves), draw, "the figure of value and safety")


def _figure(path: Path, title: str, num: int, draw: Callable, purpose: str) -> None:
    matplotlib = require("matplotlib", purpose)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    colors = matplotlib.color_sequences["tab10"]
    looks = [(colors[i % len(colors)], LINES[i % len(LINES)]) for i in range(num)]
    draw(axes, [{"color": color, "linestyle": line} for color, line in looks])
    figure.suptitle(title)
    figure.savefig(path, dpi=150)


def _band(axes: Any, steps: np.ndarray, values: np.ndarray, style: Style, label: str) -> None:
    """The mean over seeds and its interval, at each step."""
    points = [_interval(column[~np.isnan(column)]) for column in values.T]
    axes.plot(steps, [p.mean for p in points], **style, label=label)
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _smoothed(values: np.ndarray) -> np.ndarray:
    width = min(WINDOW, values.shape[1])
    return np.lib.stride_tricks.sliding_window_view(values, width, axis=1).mean(-1)


def _interval(values: np.ndarray) -> Interval:
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan)
    low, high = bootstrap_interval(values, statistic=np.mean, num_resamples=2000)
    return Interval(float(np.mean(values)), low, high)


def _ratio(others: np.ndarray, own: np.ndarray) -> Interval:
    """Of the means, the seeds of both being resampled."""

    def ratio(others: list, own: list) -> np.ndarray:
        divisor = own[0].mean(-1)
        return others[0].mean(-1) / np.where(divisor > 0, divisor, np.nan)

    low, high = stratified_interval(ratio, [others], [own], num_resamples=2000)
    return Interval(float(ratio([others], [own])), float(low), float(high))


def _short(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
