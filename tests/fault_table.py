"""`python -m pytest -m fault` ends with a table: fault, expected, seen, pass.

A test of a row is marked `fault(row, fault, expected)` and tells its fixture `seen`
what came of it.
"""

import textwrap

import pytest


@pytest.fixture
def seen(record_property):
    """Notes what a fault was met with, for the table."""
    return lambda what: record_property("seen", " ".join(str(what).split()))


def pytest_collection_modifyitems(items):
    for item in items:
        if mark := item.get_closest_marker("fault"):
            item.user_properties.append(("fault", list(mark.args)))


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("markexpr") != "fault":
        return
    cases: dict[tuple, list[tuple[str, str]]] = {}  # of a row: what was seen, and its verdict
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(report.user_properties)
            if "fault" in properties and (report.when == "call" or outcome in ("error", "skipped")):
                verdict = {"passed": "yes", "skipped": "skipped"}.get(outcome, "NO")
                case = properties.get("seen", ""), verdict
                cases.setdefault(tuple(properties["fault"]), []).append(case)
    rows = []
    for row, found in cases.items():
        failed = [case for case in found if case[1] != "yes"]
        seen, verdict = (failed or sorted(found))[0]
        count = f" ({len(found)} cases)" if len(found) > 1 else ""
        rows.append([*row, seen + count, verdict])
    terminalreporter.section("faults")
    widths = 3, 30, 34, 64, 7
    for row in [["#", "fault", "expected", "seen", "pass"], *sorted(rows)]:
        cells = [textwrap.wrap(str(x), width) or [""] for x, width in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [(cell[i] if i < len(cell) else "") for cell in cells]
            line = "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
            terminalreporter.write_line(line.rstrip())
    passed = sum(row[-1] == "yes" for row in rows)
    if missing := sorted(set(range(1, 46)) - {row[0] for row in rows}):
        terminalreporter.write_line(f"not run: {', '.join(map(str, missing))}")
    terminalreporter.write_line(
        f"{passed} of {len(rows)} faults met as expected, in {sum(map(len, cases.values()))} cases"
    )
