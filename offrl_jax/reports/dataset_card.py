"""A dataset card (`data/card.py`) for people: as text, and as one self-contained HTML page."""

import base64
import html
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from offrl_jax.data.optional import require

MOST_ROWS = 60  # of a table of features

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; margin-bottom: .3rem; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #999; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.facts td:first-child { color: #444; white-space: nowrap; padding-right: 1.5rem; }
.wide { overflow-x: auto; }
.warnings { border-left: 4px solid #b35900; background: #fff6ec; padding: .5rem 1rem .5rem 2rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; }
figure img { width: 100%; height: auto; }
h2 { break-after: avoid; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; }
               .figures { grid-template-columns: 1fr 1fr; } .wide { overflow: visible; }
               .warnings { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def text(card: dict[str, Any]) -> str:
    """The card as lines."""
    lines = [card["name"]]
    for heading, facts in _facts(card).items():
        width = max(map(len, facts))
        lines += ["", heading, *(f"  {label:{width}}  {value}" for label, value in facts.items())]
    for heading, header, rows in _tables(card):
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines += ["", heading]
        lines += [
            "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in [header, *rows]
        ]
    lines += ["", "warnings", *(f"  - {warning}" for warning in card["warnings"] or ["none"])]
    return "\n".join(lines)


def page(card: dict[str, Any]) -> str:
    """The card as an HTML document that needs no other file.

    Raises:
      InputError: without matplotlib.
    """
    name = html.escape(card["name"])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n{section(card)}</body></html>\n"
    )


def section(card: dict[str, Any]) -> str:
    """The card's part of an HTML document, styled by `STYLE`.

    Raises:
      InputError: without matplotlib.
    """
    warnings = "".join(f"<li>{html.escape(warning)}</li>" for warning in card["warnings"])
    parts = [f'<ul class="warnings">{warnings}</ul>'] if warnings else []
    for heading, facts in _facts(card).items():
        rows = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{html.escape(value)}</td></tr>"
            for label, value in facts.items()
        )
        parts.append(f'<h2>{heading}</h2><table class="facts">{rows}</table>')
    figures = "".join(
        f'<figure><img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{_svg(draw)}">'
        "</figure>"
        for alt, draw in _figures(card)
    )
    parts.append(f'<h2>distributions</h2><div class="figures">{figures}</div>')
    for heading, header, rows in _tables(card):
        head = "".join(f"<th>{cell}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead>{body}</table>"
        parts.append(f'<h2>{heading}</h2><div class="wide">{table}</div>')
    return "\n".join(parts)


def _facts(card: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Headings, labels and values."""
    environment, episodes, rewards = card["environment"], card["episodes"], card["rewards"]
    coverage, repeated, continuity = card["coverage"], card["repeated"], card["continuity"]
    actions, transitions = card["actions"], card["transitions"]
    num_features, shares = len(card["observations"]["min"]), actions.get("shares")
    if shares:
        acting = f"{len(shares)} discrete actions"
        frequent = {"actions": ", ".join(f"{i}: {share:.1%}" for i, share in enumerate(shares))}
    else:
        acting = f"{len(actions['min'])} of action"
        frequent = {"actions at bounds": f"{actions['saturated']:.1%} of their entries"}
    ends = {
        "terminal": "true ends",
        "timed_out": f"time-outs after {environment['time_limit']} steps",
        "cut": "cut elsewhere",
        "truncated": "truncated (no time limit known)",
    }
    arguments = ", ".join(f"{k}={v}" for k, v in environment["kwargs"].items() if k != "maze_map")
    returns = {"return": _spread(card["returns"])}
    if card["scores"]:
        returns["score"] = _spread(card["scores"]) + "; 0 is random, 100 the reference"
    return {
        "dataset": {
            "fingerprint": card["fingerprint"],
            "environment": (environment["id"] or "none") + (arguments and f" ({arguments})"),
            "transitions": f"{transitions:,}, of {num_features} numbers observed and {acting}",
        },
        "episodes": {
            "number": f"{episodes['number']:,}",
            "length": _spread(episodes["lengths"]),
            "ends": ", ".join(
                f"{episodes[end]:,} {words}" for end, words in ends.items() if end in episodes
            ),
            **returns,
        },
        "rewards": {
            "reward": _spread(rewards),
            "zero": f"{rewards['zero']:.1%}",
            "most frequent": f"{rewards['most_frequent']:.4g}, "
            f"{rewards['share_of_most_frequent']:.1%} of all",
            "distinct": f"{rewards['distinct']:,} values",
        },
        "coverage and repetition": {
            "features that vary": f"{coverage['varying_features']} of {num_features}, "
            f"worth {coverage['effective_dimension']:.1f} independent ones (participation ratio)",
            "cells visited": f"{coverage['cells']:,} as wide as a standard deviation, in "
            f"{transitions:,} transitions; as many as {coverage['effective_cells']:,.0f} visited "
            "equally often",
            **frequent,
            "repeated": f"{repeated['transitions']:,} transitions "
            f"({repeated['transitions'] / transitions:.1%}), {repeated['episodes']:,} episodes",
            "jumps": f"{continuity['jumps']:.1%} of steps lead elsewhere than the next row begins",
            "no next action": f"{continuity['without_next_action']:.1%} of what is no true end",
        },
    }


def _spread(q: dict[str, float]) -> str:
    return (
        f"mean {q['mean']:.4g}; {q['min']:.4g} to {q['max']:.4g}, median {q['median']:.4g}, "
        f"half of them {q['25%']:.4g} to {q['75%']:.4g}"
    )


def _tables(card: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Heading, header and rows of the tables by feature."""
    for what in ("observations",) if "shares" in card["actions"] else ("actions", "observations"):
        columns = {key: card[what][key] for key in ("min", "mean", "std", "max")}
        if what == "actions":
            columns |= {key: card[what][key] for key in ("low", "high")}
        rows = [
            (str(i), *(f"{number:.4g}" for number in row))
            for i, row in enumerate(zip(*columns.values(), strict=True))
        ]
        if what == "actions":
            shares = card[what]["saturated_by_feature"]
            rows = [(*row, f"{share:.1%}") for row, share in zip(rows, shares, strict=True)]
        header = ("column", *columns, *["at bounds"] * (what == "actions"))
        more = f", the first {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else ""
        yield f"{what}{more}", header, rows[:MOST_ROWS]


def _figures(card: dict[str, Any]) -> Iterator[tuple[str, Callable]]:
    """What each figure shows and a function that draws it on axes."""
    histograms, units = card["histograms"], {"return": "episodes", "length": "episodes"}
    for what in ("return", "length", "reward"):
        yield (
            f"histogram of {what}",
            lambda axes, what=what: _bars(
                axes, histograms[what], what, units.get(what, "transitions")
            ),
        )
    if "shares" in card["actions"]:
        yield "shares of actions", lambda axes: _shares(axes, card["actions"]["shares"])
    else:
        yield "histograms of actions", lambda axes: _strips(axes, histograms["action"])
    if card["map"]:
        alt = "positions visited" if card["map"]["is_position"] else "principal components"
        yield alt, lambda axes: _map(axes, card["map"], card["environment"])


def _bars(axes, histogram: dict[str, list], label: str, unit: str) -> None:
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color="#33658a")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(label)
    axes.set_ylabel(unit)


def _shares(axes, shares: list[float]) -> None:
    axes.bar(range(len(shares)), shares, color="#33658a")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("action")
    axes.set_ylabel("share")


def _strips(axes, histograms: list[dict[str, list]]) -> None:
    shares = np.array([histogram["counts"] for histogram in histograms], float)
    shares /= shares.sum(1, keepdims=True)
    image = axes.imshow(
        shares, aspect="auto", cmap="Blues", extent=(-1, 1, len(shares) - 0.5, -0.5), vmin=0
    )
    axes.set_xlabel("action, −1 and 1 its bounds")
    axes.set_ylabel("column")
    axes.set_xticks((-1, -0.5, 0, 0.5, 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, label="share")


def _map(axes, found: dict[str, Any], environment: dict[str, Any]) -> None:
    import matplotlib.colors

    counts = np.ma.masked_equal(np.array(found["counts"]).T, 0)
    mesh = axes.pcolormesh(
        found["x"],
        found["y"],
        counts,
        cmap="viridis_r",
        norm=matplotlib.colors.LogNorm(),
        rasterized=True,
    )
    axes.figure.colorbar(mesh, label="transitions")
    names = ("x", "y") if found["is_position"] else ("component 1", "component 2")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if found["is_position"]:
        axes.set_aspect("equal")
        _walls(axes, environment)


def _walls(axes, environment: dict[str, Any]) -> None:
    """The walls of the maze's map, whose centre is the origin and whose rows run downward."""
    import matplotlib.patches

    maze_map = environment["kwargs"].get("maze_map")
    if not isinstance(maze_map, list) or not all(isinstance(row, list) for row in maze_map):
        return
    size = 4.0 if environment["id"].startswith("AntMaze") else 1.0
    for i, row in enumerate(maze_map):
        for j, mark in enumerate(row):
            if mark == 1:
                corner = size * (j - len(row) / 2), size * (len(maze_map) / 2 - i - 1)
                axes.add_patch(matplotlib.patches.Rectangle(corner, size, size, color="#ccc"))
    axes.autoscale_view()


def _svg(draw: Callable) -> str:
    """A figure as SVG, base64."""
    require("matplotlib", "a card's page")
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=150)
    return base64.b64encode(buffer.getvalue()).decode()
