"""The end of a study's report: data, settings, compute, versions, and what is not counted."""

import math
from typing import Any

from offrl_jax.reports.document import Heading, Items, Part, Table, Text
from offrl_jax.reports.study import Study, Task, differing

FACTS = {  # of `data.summary`: heading and format
    "transitions": ("transitions", "{:,.0f}"),
    "episodes": ("episodes", "{:,.0f}"),
    "mean_length": ("steps an episode, mean", "{:,.1f}"),
    "mean_return": ("return, mean", "{:,.1f}"),
    "min_return": ("return, lowest", "{:,.1f}"),
    "max_return": ("return, highest", "{:,.1f}"),
    "mean_score": ("score, mean", "{:,.1f}"),
    "terminal_ends": ("true ends", "{:,.0f}"),
    "truncated_ends": ("time-outs", "{:,.0f}"),
    "saturated_actions": ("saturated action entries", "{:.1%}"),
}


def compose(study: Study) -> list[Part]:
    """What the numbers are to be traced to."""
    parts = _data(study), _settings(study), _compute(study), _problems(study)
    return [part for section in parts for part in section]


def _data(study: Study) -> list[Part]:
    parts: list[Part] = [Heading("Data")]
    rows: dict[str, list[str]] = {
        "environment": [str(task.dataset.get("env_id") or "none") for task in study.tasks],
        "fingerprint": [task.dataset["fingerprint"][:12] or "–" for task in study.tasks],
        "actions": [_actions(task) for task in study.tasks],
        "returns of scores 0 and 100": [_reference(task) for task in study.tasks],
    }
    names = list(dict.fromkeys(name for task in study.tasks for name in task.facts))
    for name in names:
        heading, form = FACTS.get(name, (name.replace("_", " "), "{}"))
        rows[heading] = [_fact(task.facts.get(name), form) for task in study.tasks]
    table = [[heading, *cells] for heading, cells in rows.items()]
    parts.append(
        Table(["", *(task.name for task in study.tasks)], table, "l" + "r" * len(study.tasks))
    )
    if any(not task.facts for task in study.tasks):
        parts.append(
            Text(
                "Where numbers are missing the runs have not recorded them; "
                "`offrl report --load_data` reads the data again."
            )
        )
    return parts


def _actions(task: Task) -> str:
    size = task.dataset["action_size"]
    return f"{size} discrete" if task.dataset.get("discrete") else f"{size} numbers"


def _reference(task: Task) -> str:
    reference = task.dataset.get("reference_scores")
    return " and ".join(f"{x:g}" for x in reference) if isinstance(reference, list) else "unknown"


def _fact(value: Any, form: str) -> str:
    return "–" if value is None else form.format(value) if not isinstance(value, str) else value


def _settings(study: Study) -> list[Part]:
    rows = []
    for name, values in sorted(differing(study.groups).items()):
        for value, groups in values.items():
            labels = [f"{group.label} on {group.task.name}" for group in groups]
            everywhere = [
                label
                for label in dict.fromkeys(group.label for group in groups)
                if all(g in groups for g in study.groups if g.label == label)
            ]
            labels = [
                *everywhere,
                *(
                    text
                    for text, g in zip(labels, groups, strict=True)
                    if g.label not in everywhere
                ),
            ]
            rows.append([name, _written(value), ", ".join(labels)])
    if not rows:
        return [Heading("Settings"), Text("All runs have the same settings.")]
    return [
        Heading("Settings that differ"),
        Table(
            ["setting", "value", "of"],
            rows,
            "llw",
            "Of those that two or more groups of runs have; the rest is in each run's config.json.",
        ),
    ]


def _written(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _compute(study: Study) -> list[Part]:
    rows = []
    for group in study.groups:
        for run in group.runs:
            seconds = run.seconds
            total = sum(seconds.values())
            share = {k: f"{v / total:.0%}" if total else "–" for k, v in seconds.items()}
            rows.append(
                [
                    str(run.path.name),
                    f"{len(run.seeds)}",
                    f"{run.step:,}",
                    f"{total:,.0f} s" if total else "–",
                    *(share.get(part, "–") for part in ("training", "evaluation", "diagnostics")),
                    "–" if math.isnan(run.rate) else f"{run.rate:,.0f}",
                    str(run.environment.get("device_kind") or run.environment.get("devices", "–")),
                ]
            )
    header = [
        "run",
        "seeds",
        "updates a seed",
        "wall time",
        "training",
        "evaluation waited for",
        "diagnostics",
        "updates/s, all seeds",
        "device",
    ]
    notes = "Wall time is that of a run's last session."
    return [
        Heading("Compute"),
        Table(header, rows, "lrrrrrrrl", notes),
        Heading("Versions", 3),
        Items(_versions(study)),
    ]


def _versions(study: Study) -> list[str]:
    """A line for each fact of machines and versions, with its runs where it is not of all."""
    facts: dict[str, dict[str, list[str]]] = {}
    runs = [run for group in study.groups for run in group.runs]
    for run in runs:
        versions = run.environment.get("versions")
        notes = {k: run.environment.get(k) for k in ("commit", "python", "platform", "cpu")}
        notes |= versions if isinstance(versions, dict) else {}
        for name, value in notes.items():
            if value is not None:
                facts.setdefault(str(name), {}).setdefault(str(value), []).append(run.path.name)
    lines = []
    same = [
        f"{name} {next(iter(values))}"
        for name, values in facts.items()
        if len(values) == 1 and len(next(iter(values.values()))) == len(runs)
    ]
    if same:
        lines.append(f"of all runs: {', '.join(same)}")
    for name, values in facts.items():
        if len(values) > 1 or len(next(iter(values.values()))) < len(runs):
            notes = "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
            lines.append(f"{name}: {notes}")
    return lines or ["none is recorded"]


def _problems(study: Study) -> list[Part]:
    lost = [
        f"{run.path}: seed {seed} diverged, its {why}"
        for group in study.groups
        for run in group.runs
        for seed, why in zip(run.seeds, run.diverged, strict=True)
        if why is not None
    ]
    notes = [*study.problems, *lost]
    heading = Heading("Runs not counted, failed or not whole")
    return [heading, Items(notes) if notes else Text("None: all runs ended, and no seed diverged.")]
