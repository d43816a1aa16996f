"""The benchmark's table and figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    *(
        "shape",
        "algorithm",
        "layers",
        "batch",
        "seeds × settings",
        "updates/s",
        "lowest to highest",
    ),
    *("compile", "memory", "device peak", "operations / minimum", "of the product's rate"),
)


def markdown(cases: Sequence[dict[str, Any]]) -> str:
    """A row a case; columns that no case has anything for are left out.

    Args:
      cases: As `experiments.benchmark` writes them.
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
        _layers(case["config"]),
        str(case["config"]["batch_size"]),
        _runs(case),
    )
    if "failed" in case:
        return *about, case["failed"], *[""] * (len(COLUMNS) - len(about) - 1)
    repeats = case["repeats"]
    ratio, fraction = case["operations_over_minimum"], case["fraction_of_product_rate"]
    return (
        *about,
        _count(case["updates_per_second"]),
        f"{_count(min(repeats))} to {_count(max(repeats))}",
        f"{case['lower_seconds'] + case['compile_seconds']:.1f} s",
        _megabytes(case["program_bytes"]),
        _megabytes(case["device_peak_bytes"]),
        "" if ratio is None else f"{ratio:.3f}",
        "" if fraction is None else f"{fraction:.0%} of {case['product']}",
    )


def _layers(config: dict[str, Any]) -> str:
    """Hidden layers, by network where they differ, and how many critics there are."""
    ending = "hidden_sizes"
    written = {
        name.removesuffix(ending).rstrip("_"): ", ".join(map(str, sizes))
        for name, sizes in config.items()
        if name.endswith(ending)
    }
    if len(set(written.values())) == 1:
        written = {"": next(iter(written.values()))}
    critics = [f"E = {config['num_critics']}"] if "num_critics" in config else []
    return "; ".join([*(f"{name} {sizes}".strip() for name, sizes in written.items()), *critics])


def _runs(case: dict[str, Any]) -> str:
    return f"{case['num_seeds']} × {case['num_settings']}"


def _count(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def plot(path: Path, cases: Sequence[dict[str, Any]], title: str) -> None:
    """Updates a second by algorithm, a panel a shape and a colour for each number of seeds ×
    settings; logarithmic, the repeats' range as a line.

    Raises:
      ImportError: without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [case for case in cases if "failed" not in case]
    shapes = list(dict.fromkeys(case["shape"] for case in measured))
    algorithms = list(dict.fromkeys(case["algorithm"] for case in measured))
    runs = list(dict.fromkeys(_runs(case) for case in measured))
    figure = Figure(
        figsize=(3 + 0.8 * len(algorithms), 0.5 + 3.2 * len(shapes)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shapes), 1, squeeze=False, sharex=True)[:, 0]
    width = 0.8 / len(runs)
    for panel, shape in zip(panels, shapes, strict=True):
        for i, label in enumerate(runs):
            shown = [c for c in measured if c["shape"] == shape and _runs(c) == label]
            middle = [algorithms.index(c["algorithm"]) + (i + 0.5) * width - 0.4 for c in shown]
            rates = [c["updates_per_second"] for c in shown]
            low = [c["updates_per_second"] - min(c["repeats"]) for c in shown]
            high = [max(c["repeats"]) - c["updates_per_second"] for c in shown]
            panel.bar(middle, rates, width, yerr=[low, high], label=label)
        panel.set_yscale("log")
        panel.set_ylabel("updates/s of all runs")
        panel.set_title(shape)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    panels[-1].set_xticks(range(len(algorithms)), algorithms)
    panels[0].legend(title="seeds × settings", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
