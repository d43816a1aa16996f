"""Text in a document is shown as it is, whatever Markdown would make of it."""

import html
import re

import pytest

from offrl_jax.reports.document import Heading, Items, Table, Text, to_markdown

NAMES = [
    *("_run_", "a __b__ c", "# run", "run #", "## 3", "- run", "---", "- - -", "+ run", "+"),
    *("1. run", "12) run", "1.", "*run*", "a|b", "~~a~~", "`a`", "[a](b)", "<b>a</b>", "&amp;"),
    *("\\_a", "a_b", "-1.5", "1.0 to 2.0", "+3", "2-1"),
]


def markdown(name):
    """The name as a title, a heading, a paragraph, an item and a cell."""
    table = Table(["a", name], [[name, "b"]], "ll", name)
    return to_markdown(name, [Heading(name), Text(name), Items([name]), table], "figures")


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_as_it_is(name):
    parser = pytest.importorskip(
        "markdown_it", reason="markdown-it-py is not installed; pip install -e '.[docs]'"
    )
    shown = parser.MarkdownIt().enable(["table", "strikethrough"]).render(markdown(name))
    found = re.findall(r"<(h1|h2|p|li|th|td)>(.*?)</\1>", shown)
    told = [(tag, html.unescape(text)) for tag, text in found if text not in ("a", "b")]
    assert told == [(tag, name) for tag in ("h1", "h2", "p", "li", "th", "td", "p")], shown


@pytest.mark.parametrize(
    "name, written",
    [
        ("a_b", r"a\_b"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("+ a", r"\+ a"),
        ("1. a", r"1\. a"),
        ("-1.5", "-1.5"),
        ("1.0 to 2.0", "1.0 to 2.0"),
    ],
)
def test_what_could_be_formatting_is_escaped_and_numbers_are_not(name, written):
    assert to_markdown("title", [Text(name)], "figures") == f"# title\n\n{written}\n"
