"""The report of a study: what is said, and in which order."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from offrl_jax.data.scores import CAVEATS
from offrl_jax.reports import figures
from offrl_jax.reports.document import Figures, Heading, Items, Part, Table, Text
from offrl_jax.reports.published import published, sources
from offrl_jax.reports.study import (
    Estimate,
    Group,
    Study,
    Task,
    aggregates,
    compared,
    differing,
    improvement,
    over_seeds,
)
from offrl_jax.types import InputError

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


def compose(study: Study, film: Callable[[Group], list[np.ndarray]] | None = None) -> list[Part]:
    """The report's parts.

    Args:
      study: What was read.
      film: Gives frames of a group's best policy, or raises InputError; None for a report without.

    Raises:
      ImportError: without matplotlib.
    """
    return [
        *_opening(study),
        *_scores(study),
        *_curves(study),
        *_aggregates(study),
        *_values(study),
        *(_film(study, film) if film else []),
        *_data(study),
        *_settings(study),
        *_compute(study),
        *_problems(study),
    ]


def _opening(study: Study) -> list[Part]:
    num_runs = sum(len(group.runs) for group in study.groups)
    num_seeds = sum(len(group.seeds) for group in study.groups)
    parts: list[Part] = [
        Text(
            f"{_plural(len(study.labels), 'algorithm')}, {_plural(len(study.tasks), 'task')}, "
            f"{_plural(num_seeds, 'seed')} in {_plural(num_runs, 'run')}. A score of 0 is a uniformly random policy's and 100 the reference one's. Intervals "
            "are 95% percentile bootstraps over seeds; with three seeds they span hardly less than "
            "the seeds themselves."
        )
    ]
    lost = sum(group.num_diverged for group in study.groups)
    if lost:
        parts.append(
            Text(
                f"{_plural(lost, 'seed')} diverged and lack scores: means are of the "
                "others, which flatters; the tables count them."
            )
        )
    if study.problems:
        parts.append(
            Text(
                f"{_plural(len(study.problems), 'remark')} on runs that are not counted "
                "or not whole: see the end."
            )
        )
    return parts


def _scores(study: Study) -> list[Part]:
    parts: list[Part] = [Heading("Scores")]
    for task in study.tasks:
        groups = sorted(study.of(task), key=_mean_last, reverse=True)
        others = {g.label: published(task.name, g.algorithm) for g in groups}
        header = [
            "algorithm",
            f"mean {task.measure}, last",
            "interquartile mean",
            "95% interval",
            "seeds",
            "best of k evaluations*",
        ]
        rows = [[*_score_row(group)] for group in groups]
        if any(others.values()):
            header.append("published†")
            for row, group in zip(rows, groups, strict=True):
                row.append("; ".join(map(str, others[group.label])) or "–")
        average = task.data_average
        if average is not None:
            dashes = ["–"] * (len(header) - 2)
            rows.append(["the data's own average", f"{average:.1f}", *dashes])
        caption = (
            "Of the last policies, acting with their mode. * Not a fair number: the best of each "
            "seed's k evaluations, chosen by looking at the environment; the mean over seeds."
        )
        if any(others.values()):
            caption += (
                f" † For orientation only: of D4RL's own files and environments, and so of other "
                f"data than {task.name} here. {'; '.join(sources())}."
            )
        parts += [
            Heading(task.name, 3),
            Table(header, rows, "lrrrrr" + "l" * (len(header) - 6), caption),
        ]
        if average is None:
            parts.append(Text("The data's own average is not recorded with these runs."))
        if task.measure == "return":
            parts.append(Text("No reference returns are known here: numbers are returns."))
        if caveat := CAVEATS.get(task.dataset.get("env_id")):
            parts.append(Text(caveat))
        if not any(group.algorithm == "bc" for group in groups):
            parts.append(Text("There is no run of behaviour cloning (bc) to compare with."))
    return parts


def _mean_last(group: Group) -> float:
    return group.judged.mean() if len(group.judged) else -math.inf


def _score_row(group: Group) -> list[str]:
    name = f"{group.label} (cloning)" if group.algorithm == "bc" else group.label
    steps, _ = group.curve
    best = f"{group.best.mean():.1f} (k = {len(steps)})" if len(group.best) else "–"
    scores, num_seeds = group.judged, len(group.seeds)
    seeds = f"{len(scores)}" if len(scores) == num_seeds else f"{len(scores)} of {num_seeds}"
    if group.num_diverged:
        seeds += f", {group.num_diverged} diverged"
    if not len(scores):
        return [name, "–", "–", "–", seeds, best]
    estimate = over_seeds(scores)
    return [
        *(name, f"{scores.mean():.1f}", f"{estimate.value:.1f}", _interval(estimate)),
        *(seeds, best),
    ]


def _curves(study: Study) -> list[Part]:
    images = [
        figures.learning_curves(f"curves-{i}", groups, study.labels)
        for i, task in enumerate(study.tasks)
        if (groups := [g for g in study.of(task) if not np.isnan(g.curve[1]).all()])
    ]
    told = Text(
        "Interquartile means over seeds with 95% intervals, by updates of pretraining and "
        "training together."
    )
    return [Heading("Learning curves"), told, Figures(images)]


def _aggregates(study: Study) -> list[Part]:
    scores = compared(study)
    num_tasks = sum(task.measure == "score" for task in study.tasks)
    heading = Heading("Over all tasks")
    if not scores:
        return [heading, Text("No algorithm has scores on all tasks, so nothing is pooled.")]
    parts: list[Part] = [
        heading,
        Text(
            f"Scores of {_plural(num_tasks, 'task')} pooled, as Agarwal et al. 2021 "
            "(arXiv:2108.13264) advise: seeds are resampled within each task. The optimality gap "
            "is how far scores fall short of 100 on average; lower is better."
        ),
    ]
    if others := [label for label in study.labels if label not in scores]:
        parts.append(Text(f"Left out, as they lack scores on some task: {', '.join(others)}."))
    found = {label: aggregates(of_label) for label, of_label in scores.items()}
    names = list(next(iter(found.values())))
    ordered = sorted(found.items(), key=lambda item: -item[1][names[0]].value)
    rows = [
        [label, *(_estimate(of_label[name]) for name in names), str(sum(map(len, scores[label])))]
        for label, of_label in ordered
    ]
    parts.append(
        Table(
            ["algorithm", *names, "scores"],
            rows,
            "l" + "r" * (len(names) + 1),
            "With 95% intervals in brackets.",
        )
    )
    images = [
        figures.aggregate(
            f"aggregate-{i}", name, {label: e[name] for label, e in ordered}, study.labels
        )
        for i, name in enumerate((names[0], names[2]))
    ]
    images.append(figures.performance_profiles("profiles", scores, study.labels))
    parts.append(Figures(images))
    if len(scores) > 1:
        labels = [label for label, _ in ordered]
        rows = [
            [
                a,
                *(
                    "–" if a == b else _estimate(improvement(scores[a], scores[b]), ".2f")
                    for b in labels
                ),
            ]
            for a in labels
        ]
        parts += [
            Heading("Probability of improvement", 3),
            Table(
                ["row better than column", *labels],
                rows,
                "l" + "r" * len(labels),
                "How probable it is that a seed of the row's beats one of the column's on a task "
                "drawn at random (Mann–Whitney, half of the ties), with 95% intervals.",
            ),
        ]
    return parts


def _values(study: Study) -> list[Part]:
    images = [
        figures.value_errors(f"values-{i}", groups, study.labels)
        for i, task in enumerate(study.tasks)
        if (groups := [g for g in study.of(task) if len(g.value_error)])
    ]
    if not images:
        return []
    return [
        Heading("Value bias"),
        Text(
            "The critic's mean estimate at the first states minus the discounted return from them, "
            "in the learner's rewards, of the last policies: dots are means over seeds with 95% "
            "intervals, ticks are seeds. Right of zero the learner over-estimates."
        ),
        Figures(images),
    ]


def _film(study: Study, film: Callable[[Group], list[np.ndarray]]) -> list[Part]:
    parts: list[Part] = [Heading("What the best policies do")]
    for i, task in enumerate(study.tasks):
        judged = [group for group in study.of(task) if len(group.judged)]
        if not judged:
            continue
        group = max(judged, key=_mean_last)
        alt = (
            f"{group.label} on {task.name}: frames of one episode of its best seed "
            f"({task.measure} {group.judged.max():.1f}), left to right, row by row"
        )
        try:
            parts += [
                Text(f"{alt}."),
                Figures([figures.strip(f"frames-{i}", alt, film(group))], True),
            ]
        except InputError as error:
            parts.append(Text(f"{task.name}: {error}."))
    return parts


def _data(study: Study) -> list[Part]:
    parts: list[Part] = [Heading("Data")]
    rows: dict[str, list[str]] = {
        "named in the run": [task.dataset["name"] for task in study.tasks],
        "environment": [str(task.dataset.get("env_id") or "none") for task in study.tasks],
        "fingerprint": [task.dataset["fingerprint"][:12] or "–" for task in study.tasks],
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
                "Where numbers are missing the runs have not recorded them; --load_data reads "
                "the data again."
            )
        )
    return parts


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
            "lll",
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
    told = "Wall time is that of a run's last session."
    return [
        Heading("Compute"),
        Table(header, rows, "lrrrrrrrl", told),
        Heading("Versions", 3),
        Items(_versions(study)),
    ]


def _versions(study: Study) -> list[str]:
    """A line for each fact of machines and versions, with the runs that it is of where it differs."""
    facts: dict[str, dict[str, list[str]]] = {}
    runs = [run for group in study.groups for run in group.runs]
    for run in runs:
        versions = run.environment.get("versions")
        told = {k: run.environment.get(k) for k in ("commit", "python", "platform", "cpu")}
        told |= versions if isinstance(versions, dict) else {}
        for name, value in told.items():
            if value is not None:
                facts.setdefault(str(name), {}).setdefault(str(value), []).append(run.path.name)
    lines = []
    same = [
        f"{name} {next(iter(values))}"
        for name, values in facts.items()
        if len(values) == 1 and len(next(iter(values.values()))) == len(runs)
    ]
    if same:
        lines.append(f"all runs: {', '.join(same)}")
    for name, values in facts.items():
        if len(values) > 1 or len(next(iter(values.values()))) < len(runs):
            told = "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
            lines.append(f"{name}: {told}")
    return lines or ["none is recorded"]


def _problems(study: Study) -> list[Part]:
    lost = [
        f"{run.path}: seed {seed} diverged, its {why}"
        for group in study.groups
        for run in group.runs
        for seed, why in zip(run.seeds, run.diverged, strict=True)
        if why is not None
    ]
    told = [*study.problems, *lost]
    heading = Heading("Runs not counted, failed or not whole")
    return [heading, Items(told) if told else Text("None: all runs ended, and no seed diverged.")]


def _estimate(estimate: Estimate, form: str = ".1f") -> str:
    return f"{estimate.value:{form}} ({_interval(estimate, form)})"


def _interval(estimate: Estimate, form: str = ".1f") -> str:
    if math.isnan(estimate.low):
        return "one seed"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
