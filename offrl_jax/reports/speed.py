"""The benchmark's table and figure."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.networks.serialization import from_json
from offrl_jax.networks.text import written
from offrl_jax.networks.values import NETWORKS

COLUMNS = (
    "shape",
    "algorithm",
    "networks",
    "batch",
    "seeds × settings",
    "updates/s",
    "lowest to highest",
    "compile",
    "memory",
    "device peak",
    "operations / minimum",
    "of the product's rate",
)


def markdown(cases: Sequence[dict[str, Any]]) -> str:
    """A row a case; columns that no case has anything for are left out.

    Args:
      cases: As `experiments.benchmarks.speed` writes them.
    """
    rows = [dict(zip(COLUMNS, _cells(case), strict=True)) for case in cases]
    columns = [name for name in COLUMNS if any(row[name] for row in rows)]
    lines = [columns, ["---"] * len(columns)]
    lines += [[row[name] or "–" for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(case: dict[str, Any]) -> tuple[str, ...]:
    about = (
        f"{case['shape']} ({case['observation_size']}, {case['action_size']})",
        case["algorithm"],
        _networks(case["config"]),
        str(case["config"]["batch_size"]),
        _runs(case),
    )
    if "failed" in case:
        return *about, case["failed"], *[""] * (len(COLUMNS) - len(about) - 1)
    repeats = case["repeats"]
    return (
        *about,
        _count(case["updates_per_second"]),
        f"{_count(min(repeats))} to {_count(max(repeats))}",
        f"{case['lower_seconds'] + case['compile_seconds']:.1f} s",
        _megabytes(case["program_bytes"]),
        _megabytes(case["device_peak_bytes"]),
        f"{case['operations_over_minimum']:.3f}" if "operations_over_minimum" in case else "–",
        f"{case['fraction_of_product_rate']:.0%} of {case['product']}",
    )


def _networks(config: dict[str, Any]) -> str:
    """Networks, with names if they differ, and the number of critics."""
    found = {
        name.removesuffix("network").rstrip("_"): written(from_json(value, NETWORKS, "the case"))
        for name, value in config.items()
        if isinstance(value, dict)
    }
    if len(set(found.values())) == 1:
        found = {"": next(iter(found.values()))}
    critics = [f"E = {config['num_critics']}"] if "num_critics" in config else []
    return "; ".join([*(f"{name} {text}".strip() for name, text in found.items()), *critics])


def _runs(case: dict[str, Any]) -> str:
    return f"{case['num_seeds']} × {case['num_settings']}"


def _count(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def plot(path: Path, cases: Sequence[dict[str, Any]], title: str) -> None:
    """Updates a second by algorithm, logarithmic, with the repeats' range as a line: a panel a
    shape, a colour a number of seeds, a marker a number of settings. Nothing if no case ended well.

    Raises:
      ImportError: without matplotlib.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [case for case in cases if "failed" not in case]
    if not measured:
        return
    shapes, algorithms, seeds, settings = (
        list(dict.fromkeys(case[key] for case in measured))
        for key in ("shape", "algorithm", "num_seeds", "num_settings")
    )
    runs = [(s, h) for h in settings for s in seeds]
    figure = Figure(
        figsize=(max(7, 3 + 0.8 * len(algorithms)), 1 + 3 * len(shapes)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shapes), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(seeds)))
    for panel, shape in zip(panels, shapes, strict=True):
        for i, (num_seeds, num_settings) in enumerate(runs):
            shown = {
                algorithms.index(c["algorithm"]): c["repeats"]
                for c in measured
                if (c["shape"], c["num_seeds"], c["num_settings"]) == (shape, *runs[i])
            }
            repeats = np.array(list(shown.values())).reshape(-1, len(measured[0]["repeats"]))
            middle = np.median(repeats, 1)
            panel.errorbar(
                np.array(list(shown)) + (i + 0.5) / len(runs) * 0.7 - 0.35,
                middle,
                [middle - repeats.min(1), repeats.max(1) - middle],
                fmt="os^D"[settings.index(num_settings) % 4],
                color=colors[seeds.index(num_seeds)],
                label=f"{num_seeds} × {num_settings}",
            )
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.yaxis.set_minor_formatter("")
        panel.set_ylabel("updates/s, all runs")
        panel.set_title(shape, fontsize="medium")
        panel.grid(axis="y", which="both", alpha=0.2)
    decades = np.log10([rate for case in measured for rate in case["repeats"]])
    panels[0].set_ylim(10.0 ** np.floor(decades.min()), 10.0 ** np.ceil(decades.max()))
    panels[-1].set_xticks(range(len(algorithms)), algorithms)
    panels[-1].set_xlim(-0.6, len(algorithms) - 0.4)
    panels[0].legend(title="seeds × settings", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() * 11)), fontsize="small")
    figure.savefig(path, dpi=150)
