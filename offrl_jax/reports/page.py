"""The report of a study: what is said, and in which order."""

import math
from collections.abc import Callable

import numpy as np

from offrl_jax.data.scores import CAVEATS
from offrl_jax.reports import across_tasks, appendix, figures
from offrl_jax.reports.document import Figures, Heading, Part, Table, Text
from offrl_jax.reports.estimates import over_seeds
from offrl_jax.reports.published import Published, published, sources
from offrl_jax.reports.study import Group, Study, Task, short_name
from offrl_jax.reports.wording import interval, plural
from offrl_jax.types import InputError


def compose(study: Study, film: Callable[[Group], list[np.ndarray]] | None = None) -> list[Part]:
    """The report's parts.

    Args:
      study: What was read.
      film: Gives frames of a group's best policy, or raises InputError; None for a report without.

    Raises:
      InputError: without matplotlib.
    """
    return [
        *_opening(study),
        *_scores(study),
        *_curves(study),
        *across_tasks.compose(study),
        *_values(study),
        *(_film(study, film) if film else []),
        *appendix.compose(study),
    ]


def _opening(study: Study) -> list[Part]:
    num_runs = sum(len(group.runs) for group in study.groups)
    num_seeds = sum(len(group.seeds) for group in study.groups)
    sentences = [
        f"{plural(len(study.labels), 'method')}, {plural(len(study.tasks), 'task')}, "
        f"{plural(num_seeds, 'seed')} in {plural(num_runs, 'run')}. A score of 0 is a uniformly "
        "random policy's and 100 the reference one's. Intervals are 95% percentile bootstraps over "
        "seeds; those of three seeds span hardly less than the seeds themselves."
    ]
    if lost := sum(group.num_diverged for group in study.groups):
        sentences.append(
            f"{plural(lost, 'seed')} diverged, without a score: the numbers are of the "
            "others, which flatters; the tables count them."
        )
    if study.problems:
        sentences.append(
            f"{plural(len(study.problems), 'remark')} on what is not counted: see the end."
        )
    return [Text(" ".join(sentences))]


def _scores(study: Study) -> list[Part]:
    parts: list[Part] = [Heading("Scores")]
    episodes = {str(group.runs[0].settings["num_evaluation_episodes"]) for group in study.groups}
    sentences = [
        f"Of the last policies, acting with their mode, {' or '.join(sorted(episodes))} episodes a "
        "seed; of fewer than four seeds the interquartile mean is the mean. * Not a fair number: "
        "the best of each seed's k evaluations, chosen by looking at the environment; the mean "
        "over seeds."
    ]
    cited: list[Published] = []
    for task in study.tasks:
        groups = sorted(study.of(task), key=_mean_last, reverse=True)
        parts.append(Heading(task.name, 3))
        others = {g.label: published(short_name(task.dataset["name"]), g.algorithm) for g in groups}
        parts.append(_table(task, groups, others))
        cited += [score for scores in others.values() for score in scores]
        remarks = [CAVEATS.get(task.dataset.get("env_id"))]
        if task.data_average is None:
            remarks.append("The data's own average is not recorded with these runs.")
        if task.measure == "return":
            remarks.append("Its reference returns are not known: the numbers are returns.")
        if not any(group.algorithm == "bc" for group in groups):
            remarks.append("There is no run of behaviour cloning (bc) to compare with.")
        if remarks := [remark for remark in remarks if remark]:
            parts.append(Text(" ".join(remarks)))
    if cited:
        sentences.append(
            "† For orientation only: by others, of D4RL's own files in its own environments, and "
            f"so of another dataset. {'; '.join(sources(cited))}."
        )
    return [*parts, *map(Text, sentences)]


def _table(task: Task, groups: list[Group], others: dict[str, list[Published]]) -> Table:
    header = [
        "algorithm",
        f"mean {task.measure}",
        "interquartile mean",
        "95% interval",
        "seeds",
        "best of k evaluations*",
    ]
    rows = [_score_row(group) for group in groups]
    if any(others.values()):
        header.append("published†")
        for row, group in zip(rows, groups, strict=True):
            row.append("\n".join(map(str, others[group.label])) or "–")
    if task.data_average is not None:
        average = "the data's own average", f"{task.data_average:.1f}"
        rows.append([*average, *["–"] * (len(header) - 2)])
    return Table(header, rows, "lrrrrrw"[: len(header)])


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
        name,
        f"{scores.mean():.1f}",
        f"{estimate.value:.1f}",
        interval(estimate),
        seeds,
        best,
    ]


def _curves(study: Study) -> list[Part]:
    images = [
        figures.learning_curves(f"curves-{i}", groups, study.labels)
        for i, task in enumerate(study.tasks)
        if (groups := [g for g in study.of(task) if not np.isnan(g.curve[1]).all()])
    ]
    sentences = Text(
        "Interquartile means over seeds with 95% intervals, by updates of pretraining and "
        "training together."
    )
    return [Heading("Learning curves"), sentences, Figures(images)]


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
