"""A study's report: what holds over all its tasks."""

from offrl_jax.reports import figures
from offrl_jax.reports.document import Figures, Heading, Part, Table, Text
from offrl_jax.reports.estimates import IntervalEstimate, aggregates, improvement
from offrl_jax.reports.study import Study, compared
from offrl_jax.reports.wording import interval, plural


def compose(study: Study) -> list[Part]:
    """Statistics of the pooled scores, their figures, and who improves upon whom.

    Raises:
      InputError: without matplotlib.
    """
    tasks, scores = compared(study)
    heading = Heading("Over all tasks")
    if not scores:
        return [heading, Text("No algorithm has scores on all tasks, so nothing is pooled.")]
    parts: list[Part] = [
        heading,
        Text(
            f"Scores of {plural(len(tasks), 'task')} pooled, as Agarwal et al. 2021 "
            "(arXiv:2108.13264) advise: seeds are resampled within each task. The optimality gap "
            "is how far scores fall short of 100 on average; lower is better."
        ),
    ]
    if others := [label for label in study.labels if label not in scores]:
        parts.append(Text(f"Without {', '.join(others)}, which lack scores on some of them."))
    if others := [task.name for task in study.tasks if task not in tasks]:
        parts.append(Text(f"Without {', '.join(others)}: most methods have no scores there."))
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


def _estimate(estimate: IntervalEstimate, form: str = ".1f") -> str:
    return f"{estimate.value:{form}}\n({interval(estimate, form, 'a task with one seed')})"
