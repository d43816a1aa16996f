"""The over-estimation table: what methods believe their policies to be worth, and what they are.

Source: Kumar et al. 2020, arXiv:2006.04779, table 4.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.evaluation.statistics import bootstrap_interval

COLUMNS = ("method", "learned", "actual", "difference", "low", "high", "judged", "judged_by")
LINEAR_BELOW = 10.0  # of the plots' symmetric logarithm


@dataclasses.dataclass(frozen=True)
class Curve:
    """A method's values while it trained, at T evaluations of S seeds.

    Attributes:
      method: Its name.
      step: Updates before each evaluation, T.
      learned: Mean over episodes of Q(s₀, π(s₀)), (T, S), in the learner's rewards, discounted;
        NaN where it diverged.
      actual: Mean return from the same s₀, (T, S), in the same units.
      judged: Score or undiscounted return, (T, S).
      judged_by: "score" or "return".
    """

    method: str
    step: list[int]
    learned: np.ndarray
    actual: np.ndarray
    judged: np.ndarray
    judged_by: str

    @property
    def difference(self) -> np.ndarray:
        return self.learned - self.actual


def table(curves: Sequence[Curve]) -> list[dict[str, str | float]]:
    """A row a method, of its last evaluation: means over seeds (NaN if one diverged) and the
    95% interval of the difference's."""
    rows = []
    for curve in curves:
        low, high = bootstrap_interval(curve.difference[-1], statistic=np.mean)
        ends = (x[-1] for x in (curve.learned, curve.actual, curve.difference, curve.judged))
        learned, actual, difference, judged = (float(np.mean(x)) for x in ends)
        values = curve.method, learned, actual, difference, low, high, judged, curve.judged_by
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def markdown(curves: Sequence[Curve]) -> str:
    """`table` as a Markdown table."""
    judged_by = curves[0].judged_by
    lines = [
        f"| method | learned | actual | learned − actual | 95% interval | {judged_by} |",
        "|---|---|---|---|---|---|",
    ]
    for row in table(curves):
        interval = "–" if np.isnan(row["low"]) else f"{_short(row['low'])} to {_short(row['high'])}"
        lines.append(
            f"| {row['method']} | {_short(row['learned'], '')} | {_short(row['actual'], '')} | "
            f"{_short(row['difference'])} | {interval} | {row['judged']:.1f} |"
        )
    return "\n".join(lines)


def plot(path: Path, curves: Sequence[Curve], title: str) -> None:
    """The differences as points with intervals, and on their way there; symmetric-log axes.

    Raises:
      InputError: without matplotlib.
    """
    matplotlib = require("matplotlib", "the figure of value bias")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, max(4.5, 0.5 * len(curves))), layout="constrained")
    FigureCanvasAgg(figure)
    ends, ways = figure.subplots(1, 2)
    colors = matplotlib.color_sequences["tab10" if len(curves) <= 10 else "tab20"]
    for i, (curve, row) in enumerate(zip(curves, table(curves), strict=True)):
        color = colors[i % len(colors)]
        if not np.isnan(row["low"]):
            ends.plot([row["low"], row["high"]], [i, i], color=color, linewidth=2)
        center = np.nan_to_num(row["difference"])  # "diverged" is written at zero
        if not np.isnan(row["difference"]):
            ends.plot(center, i, "o", color=color)
        ends.annotate(
            _short(row["difference"]),
            (center, i),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
        ways.plot(curve.step, curve.difference.mean(1), color=color, label=curve.method)
        low, high = curve.difference.min(1), curve.difference.max(1)
        ways.fill_between(curve.step, low, high, color=color, alpha=0.15, linewidth=0)
    ends.set_yticks(range(len(curves)), [curve.method for curve in curves])
    ends.set_ylim(len(curves) - 0.4, -0.8)
    ends.margins(x=0.15)
    ends.set_xscale("symlog", linthresh=LINEAR_BELOW)
    ends.tick_params("x", labelrotation=60)
    ends.set_xlabel("learned − actual value, at the end")
    ends.axvline(0, color="black", linewidth=0.8)
    ways.set_yscale("symlog", linthresh=LINEAR_BELOW)
    ways.set_xlabel("updates")
    ways.set_ylabel("learned − actual value")
    ways.axhline(0, color="black", linewidth=0.8)
    ways.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    figure.savefig(path, dpi=150)


def _short(value: float, sign: str = "+") -> str:
    if not np.isfinite(value):
        return "diverged"
    return f"{value:{sign}.2f}" if abs(value) < 1e4 else f"{value:{sign}.2e}"
