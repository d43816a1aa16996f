"""Scores of policies beside their true returns, as text and as a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.data.optional import require
from offrl_jax.evaluation.ranking import calibration, regret_at_k, spearman
from offrl_jax.reports.wording import shown

TOP = 1, 3, 5  # k of regret@k
SHOWN = {  # score: heading
    "fqe": "FQE",
    "initial_value": "initial value",
    "soft_opc": "soft OPC",
    "td_error": "−TD error²",
}


def judged(
    scores: dict[str, np.ndarray],
    returns: np.ndarray,
    true_values: dict[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """How well every score foretells the returns, over the policies that have both.

    Args:
      scores: By name, (P,), NaN where a policy has none.
      returns: True mean returns, (P,), NaN where unknown.
      true_values: True discounted returns in the units of those scores that estimate them, (P,),
        NaN where unknown or discounted otherwise.

    Returns:
      By score: `num_policies`, `spearman`, `regret@k` and, of estimates of returns, `mean_error`
      and `slope`. Scores that fewer than two policies have are left out.
    """
    found = {}
    for name, score in scores.items():
        known = np.isfinite(score) & np.isfinite(returns)
        num = int(known.sum())
        if num < 2:
            continue
        found[name] = {"num_policies": num, "spearman": spearman(score[known], returns[known])}
        for k in TOP:
            if k < num:
                found[name][f"regret@{k}"] = regret_at_k(score[known], returns[known], k)
        if name in true_values:
            known = np.isfinite(score) & np.isfinite(true_values[name])
            if known.sum() >= 2:
                found[name] |= calibration(score[known], true_values[name][known])
    return found


def markdown(judged: dict[str, dict[str, float]]) -> str:
    """`judged` as a table."""
    columns = ["num_policies", "spearman", *(f"regret@{k}" for k in TOP), "mean_error", "slope"]
    lines = [
        "| score | policies | Spearman | "
        + " | ".join(columns[2:-2])
        + " | estimate − true value | slope |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for name, row in judged.items():
        cells = [_short(row[column]) if column in row else "–" for column in columns]
        lines.append(f"| {SHOWN[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text(results: dict[str, Any]) -> str:
    """A selection as `select` leaves it, for people."""
    parts = [table(results), verdict(results)]
    if results["judged"]:
        parts.append(markdown(results["judged"]))
    if results["online_instead"]:
        parts.append(online_table(results["online_instead"]))
    return "\n\n".join(parts)


def table(results: dict[str, Any]) -> str:
    """A line a policy, an arrow at the choice."""
    rows = results["policies"]
    names = list(rows[0]["scores"])
    header = ["", "run", "algorithm", "step", "seed", *(SHOWN[n] for n in names), "return"]
    cells = [header]
    for row in rows:
        online = row.get("online")
        cells.append(
            [
                "→" if row is results["choice"] else "",
                *(str(row[key]) for key in ("run", "algorithm", "step", "seed")),
                *(_written(row["scores"][name]) for name in names),
                _written(row["true_return"]),
                *([f"{online['mean_return']:.1f} in {online['episodes']}"] if online else []),
            ]
        )
    if results["by"] == "online":
        header.append("seen in episodes")
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def verdict(results: dict[str, Any]) -> str:
    """The choice in words, and how good it is where that is known."""
    choice, seen = results["choice"], results["environment_episodes_seen"]
    text = (
        f"the choice by {results['by']}: seed {choice['seed']} of {choice['run']} at step "
        f"{choice['step']:,}; it has seen {seen:,} environment episodes"
    )
    known = [row["true_return"] for row in results["policies"] if np.isfinite(row["true_return"])]
    if np.isfinite(choice["true_return"]):
        text += (
            f"\nits true return is {choice['true_return']:.1f}, of {len(known)} policies with a "
            f"known one the best has {max(known):.1f}, their mean is {np.mean(known):.1f} and the "
            f"worst has {min(known):.1f}"
        )
    return text


def online_table(online: dict[str, Any]) -> str:
    """What online selection would have given, by the environment episodes it takes."""
    lines = [
        "| chosen online instead, by | environment episodes | return of the choice |",
        "|---|---|---|",
    ]
    for row in online["expected_online_performance"]:
        lines.append(
            f"| the best of {row['policies']} drawn at random | {row['episodes']} | "
            f"{row['expected_return']:.1f} |"
        )
    for row in online["ucb"]:
        lines.append(
            f"| UCB | {row['episodes']} | {row['mean']:.1f} ({row['low']:.1f} to "
            f"{row['high']:.1f}) |"
        )
    return "\n".join(lines)


def plot(
    path: Path,
    scores: dict[str, np.ndarray],
    returns: np.ndarray,
    runs: Sequence[str],
    chosen: int,
    title: str,
) -> None:
    """A panel a score: each policy's against its true return, coloured by run; the chosen one has a
    ring.

    Args:
      path: Of the PNG.
      scores: By name, (P,).
      returns: (P,); policies without one are left out.
      runs: The run of each policy, P names.
      chosen: Index of the choice.
      title: Above all.

    Raises:
      InputError: without matplotlib.
    """
    matplotlib = require("matplotlib", "the figure of scores")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(runs))
    colors = matplotlib.color_sequences["tab10" if len(names) <= 10 else "tab20"]
    figure = Figure(figsize=(4.2 * len(scores), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (name, score) in zip(
        figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True
    ):
        for i, run in enumerate(names):
            own = np.array([r == run for r in runs])
            color = colors[i % len(colors)]
            panel.plot(score[own], returns[own], "o", color=color, alpha=0.8, label=shown(run))
        ring = {"markersize": 14, "fillstyle": "none", "color": "black"}
        panel.plot(score[chosen], returns[chosen], "o", **ring)
        known = np.isfinite(score) & np.isfinite(returns)
        heading = SHOWN[name]
        if known.sum() >= 2:
            heading += f", Spearman {spearman(score[known], returns[known]):+.2f}"
        panel.set_title(heading, fontsize=10)
        panel.set_xlabel("score")
    figure.axes[0].set_ylabel("true mean return")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=3)
    figure.suptitle(f"{shown(title)}; the choice has a ring", fontsize=11)
    figure.savefig(path, dpi=150)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _written(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"
