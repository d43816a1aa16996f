"""Figures of a study: small panels that stay legible on a telephone and on paper."""

import dataclasses
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.evaluation.statistics import bootstrap_interval
from offrl_jax.reports.estimates import NUM_RESAMPLES, IntervalEstimate, over_seeds, profile
from offrl_jax.reports.study import Group
from offrl_jax.reports.wording import shown

WIDTH = 4.8  # inches
LINEAR_BELOW = 10.0  # of value errors' symmetric logarithm
MARKERS = "osD^vP*X<>"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",  # looks the same wherever it is opened
    "svg.hashsalt": "offrl_jax",  # the same figure is the same bytes
    "text.parse_math": False,  # names are not formulas
}


@dataclasses.dataclass(frozen=True)
class Image:
    """A figure as files.

    Attributes:
      name: Of the files, without ending.
      alt: What it shows, for those who do not see it.
      png: Its bytes.
      svg: Its bytes, or None for a photograph.
    """

    name: str
    alt: str
    png: bytes
    svg: bytes | None = None


def learning_curves(name: str, groups: Sequence[Group], labels: Sequence[str]) -> Image:
    """A task's scores while training: interquartile means with 95% intervals over seeds.

    Raises:
      InputError: without matplotlib.
    """
    task = groups[0].task

    def draw(axes: Any) -> None:
        for group in groups:
            steps, scores = group.curve
            points = [over_seeds(row[~np.isnan(row)]) for row in scores if not np.isnan(row).all()]
            steps = steps[~np.isnan(scores).all(1)]
            style = _style(group.label, labels)
            _banded(axes, steps, points, style, group.label)
        if task.data_average is not None:
            axes.axhline(task.data_average, color="0.35", linestyle=":", label="the data's average")
        axes.set_xlabel("updates")
        axes.set_ylabel(task.measure)
        axes.xaxis.set_major_locator(_ticks(5))
        axes.xaxis.set_major_formatter(_thousands)
        axes.set_title(_shortened(task.name), fontsize="medium")

    return _image(name, f"Learning curves on {task.name}", draw)


def value_errors(name: str, groups: Sequence[Group], labels: Sequence[str]) -> Image:
    """Learned minus actual value of a task's last policies: means with 95% intervals, seeds as
    small points; a symmetric logarithm where they are large.

    Raises:
      InputError: without matplotlib.
    """
    task = groups[0].task

    def draw(axes: Any) -> None:
        for i, group in enumerate(groups):
            errors = group.value_error
            color = _style(group.label, labels)["color"]
            low, high = bootstrap_interval(errors, statistic=np.mean, num_resamples=NUM_RESAMPLES)
            axes.plot([low, high], [i, i], color=color, linewidth=2)
            axes.plot(errors, np.full(len(errors), i), "|", color=color, markersize=9)
            axes.plot(errors.mean(), i, "o", color=color)
        axes.axvline(0, color="black", linewidth=0.8)
        errors = np.concatenate([group.value_error for group in groups])
        if np.abs(errors).max() > LINEAR_BELOW:
            _symmetric_log(axes, errors.min(), errors.max())
        axes.set_yticks(range(len(groups)), [_wrapped(group.label) for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlabel("learned − actual value")
        axes.set_title(_shortened(task.name, 30), fontsize="medium")
        axes.grid(axis="x", alpha=0.25)

    return _image(
        name, f"Learned minus actual value on {task.name}", draw, 1.3 + 0.36 * len(groups)
    )


def aggregate(
    name: str, title: str, estimates: dict[str, IntervalEstimate], labels: Sequence[str]
) -> Image:
    """A statistic over tasks by label, with 95% intervals.

    Raises:
      InputError: without matplotlib.
    """

    def draw(axes: Any) -> None:
        for i, (label, estimate) in enumerate(estimates.items()):
            color = _style(label, labels)["color"]
            axes.plot([estimate.low, estimate.high], [i, i], color=color, linewidth=7, alpha=0.35)
            axes.plot(estimate.value, i, "o", color=color)
        axes.set_yticks(range(len(estimates)), [_wrapped(label) for label in estimates])
        axes.set_ylim(len(estimates) - 0.5, -0.5)
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.25)

    return _image(name, f"{title} by algorithm", draw, 0.9 + 0.36 * len(estimates))


def performance_profiles(
    name: str, scores: dict[str, Sequence[np.ndarray]], labels: Sequence[str]
) -> Image:
    """Share of a study's scores above every threshold, with 95% intervals.

    Args:
      name: Of the files.
      scores: By label, T arrays (S,).
      labels: All of the report's, which decide the colours.

    Raises:
      InputError: without matplotlib.
    """
    found = np.concatenate([x for of_label in scores.values() for x in of_label])
    low, high = min(0.0, found.min()), max(100.0, found.max())
    thresholds = np.linspace(low, high + 0.02 * (high - low), 121)

    def draw(axes: Any) -> None:
        for label, of_label in scores.items():
            style = _style(label, labels)
            share, lower, upper = profile(of_label, thresholds)
            line = {**style, "marker": None}
            axes.plot(thresholds, share, label=_shortened(label), drawstyle="steps-pre", **line)
            axes.fill_between(
                thresholds, lower, upper, step="pre", color=style["color"], alpha=0.12, linewidth=0
            )
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("score τ")
        axes.set_ylabel("share of scores above τ")
        axes.grid(alpha=0.25)

    return _image(name, "Performance profiles", draw)


def strip(name: str, alt: str, frames: Sequence[np.ndarray]) -> Image:
    """Frames of a film, rows of four.

    Args:
      name: Of the file.
      alt: What it shows.
      frames: Each (height, width, 3), bytes.

    Raises:
      InputError: without matplotlib.
    """
    require("matplotlib", "a report of runs")
    from matplotlib.image import imsave

    bordered = np.pad(frames, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    columns = min(4, len(bordered))
    missing = np.full((-len(bordered) % columns, *bordered.shape[1:]), 255, np.uint8)
    rows = np.concatenate([bordered, missing])
    rows = rows.reshape(-1, columns, *bordered.shape[1:]).swapaxes(1, 2)
    file = io.BytesIO()
    imsave(file, rows.reshape(-1, columns * bordered.shape[2], 3), format="png")
    return Image(name, alt, file.getvalue())


def _image(name: str, alt: str, draw: Callable[[Any], None], height: float = 3.2) -> Image:
    """Draws in a panel of its own, with the legend below where there is one."""
    matplotlib = require("matplotlib", "a report of runs")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            columns = 1 if max(map(len, labels)) > 23 else 2 if max(map(len, labels)) > 10 else 4
            rows = -(-len(handles) // columns)
            figure.set_figheight(height + 0.21 * rows)
            figure.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=columns,
                frameon=False,
                fontsize=9,
            )
        files = {form: io.BytesIO() for form in ("png", "svg")}
        for form, file in files.items():
            metadata = {"Date": None} if form == "svg" else None
            figure.savefig(file, format=form, dpi=150, metadata=metadata)
    return Image(name, alt, **{form: file.getvalue() for form, file in files.items()})


def _banded(
    axes: Any, x: np.ndarray, points: list[IntervalEstimate], style: dict, label: str
) -> None:
    value, low, high = (
        np.array([getattr(point, end) for point in points]) for end in ("value", "low", "high")
    )
    axes.plot(x, value, label=_shortened(label), markersize=4, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _style(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """The same colour and marker for a label in every figure."""
    import matplotlib

    i = labels.index(label)
    colors = matplotlib.color_sequences["tab10" if len(labels) <= 10 else "tab20"]
    return {
        "color": colors[i % len(colors)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": ("-", "--", "-.")[i // len(colors) % 3],
    }


def _ticks(number: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(number, steps=[1, 2, 2.5, 5, 10])


def _thousands(x: float, position: int) -> str:
    return f"{x / 1e6:g}M" if abs(x) >= 1e6 else f"{x / 1e3:g}k" if abs(x) >= 1e3 else f"{x:g}"


def _symmetric_log(axes: Any, low: float, high: float) -> None:
    """A scale from the lowest to the highest with a few powers of ten, and zero between."""
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW)
    powers = [10.0**k for k in range(1, 40)]
    below = [-p for p in powers if p <= max(-low, 0) * 1.5][::-1]
    above = [p for p in powers if p <= max(high, 0) * 1.5]
    every = max(1, -(-(len(below) + len(above)) // 4))
    ticks = [*below[::-1][::every][::-1], 0.0, *above[::every]]
    axes.set_xticks(ticks, [_power(tick) for tick in ticks])
    axes.set_xlim(min(2 * low, low - 5, -5), max(2 * high, high + 5, 5))
    axes.minorticks_off()


def _power(x: float) -> str:
    return f"{x:g}" if abs(x) < 1e4 else f"{x:.0e}".replace("e+0", "e").replace("e+", "e")


def _shortened(text: str, width: int = 44) -> str:
    text = shown(text)  # FreeType draws nothing else
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _wrapped(text: str) -> str:
    """For the side of an axis: two lines at most."""
    return "\n".join(textwrap.wrap(_shortened(text), 23)[:2])
