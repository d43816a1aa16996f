"""Compares runs: scores with intervals, and probabilities of improvement."""

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offrl_jax.api.run import Run
from offrl_jax.evaluation.statistics import interquartile_mean
from offrl_jax.reports import recorded
from offrl_jax.reports.estimates import IntervalEstimate, improvement, over_tasks
from offrl_jax.reports.study import Group, Study, compared, study_of
from offrl_jax.reports.table import aligned
from offrl_jax.reports.wording import interval, plural
from offrl_jax.types import InputError

Scores = dict[str, list[np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Runs grouped by task, algorithm and settings, their seeds pooled; prints as tables.

    Attributes:
      study: The groups, with the scores of every seed.
    """

    study: Study

    @property
    def scores(self) -> dict[str, Scores]:
        """Scores of the last policies: by task, and over all tasks if there are several, then by
        label; one array (seeds,) for each task."""
        found = {
            f"{task.name}, {task.measure}": _by_label(self.study.of(task))
            for task in self.study.tasks
        }
        if len(found) > 1:
            tasks, pooled = compared(self.study)
            if pooled:
                found[f"all of {plural(len(tasks), 'task')}, score"] = pooled
        return found

    def interquartile_means(self, name: str) -> dict[str, IntervalEstimate]:
        """Interquartile means by label, with 95% intervals; `name` is a key of `scores`."""
        return {k: over_tasks(v, interquartile_mean) for k, v in self.scores[name].items()}

    def improvements(self, name: str) -> dict[tuple[str, str], IntervalEstimate]:
        """The probability that a seed of the first label beats one of the second on a task, with
        95% intervals; `name` is a key of `scores`."""
        scores = self.scores[name]
        return {(a, b): improvement(scores[a], scores[b]) for a in scores for b in scores if a != b}

    def __repr__(self) -> str:
        parts = [self._table(name, scores) for name, scores in self.scores.items()]
        parts += [f"note: {problem}" for problem in self.study.problems]
        return "\n\n".join(parts)

    def _table(self, name: str, scores: Scores) -> str:
        means = self.interquartile_means(name)
        labels = sorted(scores, key=lambda label: -means[label].value)
        rows = [
            (
                label,
                f"{np.concatenate(scores[label]).mean():.1f}",
                f"{means[label].value:.1f}",
                interval(means[label]),
                str(sum(map(len, scores[label]))),
            )
            for label in labels
        ]
        lines = aligned([name, "mean", "interquartile mean", "95% interval", "seeds"], rows)
        if len(labels) > 1:
            found = self.improvements(name)
            rows = [
                (a, *("–" if a == b else f"{found[a, b].value:.2f}" for b in labels))
                for a in labels
            ]
            lines += ["", *aligned(["probability that row beats column", *labels], rows)]
        return "\n".join(lines)


def compare(runs: Run | str | Path | Sequence[Run | str | Path]) -> Comparison:
    """Compares runs by the scores of their last policies, or by returns if a task has no scores.
    Runs that differ only in their seeds are pooled.

    Args:
      runs: Runs, run directories, or patterns of directories such as "runs/*".

    Raises:
      InputError: if a pattern matches nothing, or no run can be used.
    """
    records, problems = [], []
    for run in [runs] if isinstance(runs, Run | str | Path) else runs:
        if isinstance(run, Run):
            records.append(run.recorded())
            continue
        for path in _matches(str(Path(run).expanduser())):
            try:
                records.append(recorded.read(path))
            except InputError as error:
                problems.append(str(error))
    return Comparison(study_of(records, problems))


def _matches(pattern: str) -> list[str]:
    if glob.has_magic(pattern) and not Path(pattern).exists():
        if found := sorted(glob.glob(pattern)):
            return found
        raise InputError(f"no directory matches {pattern!r}; give run directories")
    return [pattern]


def _by_label(groups: Sequence[Group]) -> Scores:
    return {group.label: [group.judged] for group in groups if len(group.judged)}
