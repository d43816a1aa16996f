"""A document as plain data, and as one HTML file or a Markdown one. Whatever text it holds is shown
as it is: nothing in it is markup."""

import base64
import dataclasses
import html
import re
from collections.abc import Sequence

from offrl_jax.reports.figures import Image

MANY = 9  # columns; as many do not fit a page at the usual size
MARKUP = re.compile(r"([\\`*_#\[\]|$~])")
BLOCK = re.compile(r"^(\d*)([+-]+|[.)])(?= |$)")  # what would begin a list or be a rule

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.25rem 3rem; max-width: 76rem; background: #fff;
  color: #1b1f24; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .6rem 0; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 1px solid #d0d7de; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p, ul { margin: .5rem 0; max-width: 52rem; }
li { margin: .2rem 0; }
.table { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.note { color: #57606a; font-size: .85rem; margin-top: -.6rem; }
th, td { padding: .28rem .7rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid #e3e7eb; overflow-wrap: normal; }
td { white-space: nowrap; }
thead th { border-bottom: 2px solid #8c959f; vertical-align: bottom; }
th.l, td.l, td.w, th.w { text-align: left; overflow-wrap: break-word; white-space: normal; }
th.w, td.w { min-width: 20rem; }
tr { background: #fff; }
tbody tr:nth-child(even) { background: #f6f8fa; }
tr > :first-child { position: sticky; left: 0; background: inherit; max-width: 16rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .8rem 0; }
figure { margin: 0; flex: 1 1 420px; max-width: 540px; }
figure.wide { flex-basis: 100%; max-width: 62rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: #57606a; font-size: .85rem; }
@media (max-width: 600px) {
  body { padding: .6rem .75rem 2rem; }
  th, td { padding: .25rem .45rem; }
  tr > :first-child { max-width: 13rem; }
}
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; color: #000; }
  h2, h3, h2 + p { break-after: avoid; }
  figure, tr, li { break-inside: avoid; }
  .table { overflow: visible; }
  table { font-size: 8pt; width: 100%; }
  th, td, th.l, td.l, th.w, td.w { padding: .15rem .3rem; min-width: 0; }
  td.l, td.w { overflow-wrap: anywhere; }
  .many table { font-size: 6pt; }
  .many th, .many td { overflow-wrap: anywhere; white-space: normal; }
  .note { font-size: 8pt; margin-top: 0; }
  tr > :first-child { position: static; max-width: none; }
  .figures { display: block; }
  figure { display: inline-block; width: 48%; vertical-align: top; margin: 0 1% .8rem 0; }
  figure.wide { width: 100%; }
}
"""


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Text:
    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list with bullets."""

    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose columns are words ("l"), numbers ("r") or sentences ("w"), which are wider.
    Cells may have several lines."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Images beside one another where they fit."""

    images: Sequence[Image]
    wide: bool = False


Part = Heading | Text | Items | Table | Figures


def to_html(title: str, parts: Sequence[Part]) -> str:
    """A page that needs no other file."""
    body = "\n".join(_html(part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(title: str, parts: Sequence[Part], folder: str) -> str:
    """The same with the images as PNG files in a folder."""
    return "\n\n".join([f"# {_plain(title)}", *(_markdown(p, folder) for p in parts)]) + "\n"


def _html(part: Part) -> str:
    match part:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Items(texts):
            return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"
        case Figures(images, wide):
            css = ' class="wide"' if wide else ""
            shown = "\n".join(f"<figure{css}>{_img(image)}</figure>" for image in images)
            return f'<div class="figures">\n{shown}\n</div>'
        case Table(header, rows, align, caption):
            note = f'\n<p class="note">{html.escape(caption)}</p>' if caption else ""
            many = " many" if len(header) > MANY else ""
            lines = [f"<tr>{_cells('th', header, align)}</tr>"]
            lines += [f"<tr>{_cells('td', row, align)}</tr>" for row in rows]
            return (
                f'<div class="table{many}"><table><thead>{lines[0]}</thead>\n<tbody>'
                + "\n".join(lines[1:])
                + f"</tbody></table></div>{note}"
            )


def _cells(tag: str, cells: Sequence[str], align: str) -> str:
    css = {"l": ' class="l"', "r": "", "w": ' class="w"'}
    return "".join(
        f"<{tag}{css[side]}>{html.escape(cell).replace(chr(10), '<br>')}</{tag}>"
        for cell, side in zip(cells, align, strict=True)
    )


def _img(image: Image) -> str:
    form, content = ("svg+xml", image.svg) if image.svg else ("png", image.png)
    source = f"data:image/{form};base64,{base64.b64encode(content).decode()}"
    return f'<img alt="{html.escape(image.alt)}" src="{source}">'


def _markdown(part: Part, folder: str) -> str:
    match part:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Items(texts):
            return "\n".join(f"- {_plain(text)}" for text in texts)
        case Figures(images):
            return "\n".join(f"![{_plain(i.alt)}]({folder}/{i.name}.png)" for i in images)
        case Table(header, rows, align, caption):
            rule = ["---:" if side == "r" else "---" for side in align]
            lines = [[_plain(c) for c in header], rule, *([_plain(c) for c in r] for r in rows)]
            table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
            return f"{table}\n\n{_plain(caption)}" if caption else table


def _plain(text: str) -> str:
    """Text in one line that Markdown shows as it is."""
    line = MARKUP.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
    return BLOCK.sub(r"\1\\\2", line)
