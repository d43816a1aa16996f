"""What pages take from the code, so that it cannot go stale: an algorithm's sources, its presets,
its settings; and docstrings, which are plain text with formulas, made fit for reStructuredText."""

import dataclasses
import importlib
import inspect
import math
import re
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from offrl_jax import ALGORITHMS
from offrl_jax.networks import text as networks_text
from offrl_jax.networks.values import is_network

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
KEPT = "Citation", "Update order", "Checked against"
LABELS = re.compile(r"(Citation|Update order|Checked against|Departures): ")
DEPARTURE = re.compile(r"Departs from the paper: (.+?)(?:\n\s*\n|$)", re.DOTALL)


class AboutAlgorithm(SphinxDirective):
    """A directive whose argument is the name of an algorithm."""

    required_arguments = 1

    @property
    def algorithm(self) -> Any:
        return ALGORITHMS[self.arguments[0]]


class Sources(AboutAlgorithm):
    """Paper, order of updates, code it was checked against and departures, from the docstrings of
    the algorithm's module; the directive's content is one more departure."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(f"offrl_jax.algorithms.{self.algorithm.name}")
        _, *parts = LABELS.split(" ".join(inspect.getdoc(module).split()))
        facts = dict(zip(parts[::2], parts[1::2], strict=True))
        found = [facts.get("Departures", ""), " ".join(self.content)]
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            found += [
                f"`{name}`: {' '.join(text.split())}"
                for text in DEPARTURE.findall((own and inspect.getdoc(function)) or "")
            ]
        lines = [f"**{label}**\n: {text}\n" for label, text in facts.items() if label in KEPT]
        departures = "\n".join(f"  - {text}" for text in found if text)
        lines += [f"**Departures**\n: {departures.lstrip()}\n"] if departures else []
        linked = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", "\n".join(lines))
        return self.parse_text_to_nodes(linked)


class Presets(AboutAlgorithm):
    """The docstring of the algorithm's file in `offrl_jax/presets/`, and the recipes' names."""

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(f"offrl_jax.presets.{self.algorithm.name}")
        names = ", ".join(f"`{name}`" for name in module.RECIPES)
        text = inspect.getdoc(module)
        return [
            *self.parse_text_to_nodes(f"`--recipe=` {names}."),
            nodes.literal_block(text, text, language="text", classes=["presets"]),
        ]


class Settings(AboutAlgorithm):
    """A table of the fields of the algorithm's config."""

    def run(self) -> list[nodes.Node]:
        rows = [
            (
                nodes.literal(text=f"--config.{field.name}"),
                nodes.literal(text=written(field.default)),
                nodes.Text(kind(field)),
                nodes.Text(field.metadata["help"]),
            )
            for field in dataclasses.fields(self.algorithm.Config)
        ]
        header = [nodes.Text(text) for text in ("setting", "default", "type", "meaning")]
        return [table(header, rows)]


def written(value: Any) -> str:
    """A default as the command line takes it."""
    if isinstance(value, nn.Module):
        return networks_text.written(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def kind(field: dataclasses.Field) -> str:
    """Type and range of a setting."""
    low, high = field.metadata["low"], field.metadata["high"]
    if field.metadata["choices"]:
        return ", ".join(field.metadata["choices"])
    name = "network" if is_network(field) else field.type.__name__
    if math.isfinite(low) and math.isfinite(high):
        return f"{name}, {low:g} to {high:g}"
    if math.isfinite(low):
        return f"{name} ≥ {low:g}"
    return f"{name} ≤ {high:g}" if math.isfinite(high) else name


def table(header: Iterable[nodes.Node], rows: Iterable[Iterable[nodes.Node]]) -> nodes.table:
    def row(cells: Iterable[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))

    header = list(header)
    columns = [nodes.colspec(colwidth=1) for _ in header]
    group = nodes.tgroup("", *columns, cols=len(columns))
    group += [nodes.thead("", row(header)), nodes.tbody("", *map(row, rows))]
    return nodes.table("", group, classes=["settings"])


def plain_to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list) -> None:
    """Bars, stars and backticks of docstrings are theirs, not reStructuredText's; lines with
    columns stay lines; arXiv numbers become links."""
    if what == "module":
        lines.clear()  # pages say it themselves
        return
    text = "\n".join(lines)
    text = re.sub(r"([|*\\])", r"\\\1", text)
    text = re.sub(r"`([^`]+)`(?=(\w?))", code, text)
    text = ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)
    text = re.sub(r"^(Source|Departs from the paper):", r"*\1:*", text, flags=re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n", text)
    lines[:] = "\n\n".join(map(keep_columns, paragraphs)).split("\n")


def code(match: re.Match) -> str:
    """A reference where the text is a name, else plain code; set off from a letter that follows."""
    text = re.sub(r"\\([|*\\])", r"\1", " ".join(match[1].split()))
    is_name = re.fullmatch(r"[A-Za-z_][\w.]*", text)
    return (f":py:obj:`{text}`" if is_name else f"``{text}``") + ("\\ " if match[2] else "")


def keep_columns(paragraph: str) -> str:
    """A paragraph as a line block if its lines are a table of two columns."""
    lines = paragraph.split("\n")
    in_columns = sum(bool(re.match(r"\S+(, \S+)? {2,}\S", line)) for line in lines)
    if in_columns < 2:
        return paragraph
    named = (re.sub(r"^(\S+(?:, \S+)?) {2,}", r"**\1** — ", line) for line in lines)
    return "\n".join(f"| {line}" if line[:1].strip() else f"  {line}" for line in named)


def short_arrays(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returned: str
) -> tuple[str | None, str | None]:
    """jaxtyping's annotations as they are written: `Float[Array, 'B A']`; of flax's modules the
    fields alone."""

    def short(part: str | None) -> str | None:
        part = part and part.replace("jaxlib._jax.Array", "Array")
        return part and re.sub(r"~[\w.]+\.", "", re.sub(r", parent: ~flax.*\)", ")", part))

    return short(signature), short(returned)


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leaves out fields of named tuples, which the class describes, and what Python documents by
    repeating its signature: configs, whose settings are a table, and states."""
    is_field = type(obj).__name__ == "_tuplegetter"
    repeats = inspect.isclass(obj) and (obj.__doc__ or "").startswith(f"{obj.__name__}(")
    return True if is_field or repeats else None


def every_algorithm_has_a_page(app: Sphinx) -> None:
    for name in ALGORITHMS:
        if not (app.srcdir / "algorithms" / f"{name}.md").exists():
            raise ExtensionError(f"algorithm {name} has no page; write docs/algorithms/{name}.md")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("sources", Sources)
    app.add_directive("presets", Presets)
    app.add_directive("settings", Settings)
    app.connect("builder-inited", every_algorithm_has_a_page)
    app.connect("autodoc-process-docstring", plain_to_rst, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", short_arrays)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
