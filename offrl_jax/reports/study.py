"""A study: runs of several algorithms, seeds and tasks, and their numbers."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.reports import recorded
from offrl_jax.reports.recorded import RecordedRun
from offrl_jax.reports.settings import labels, run_settings
from offrl_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Task:
    """A dataset and the environment that judges what was learnt from it.

    Attributes:
      name: For people, no other task's.
      dataset: Its spec as the first run has it.
      measure: "score", or "return" where some run has no scores.
      facts: What is known of the data, such as `mean_return` and `mean_score`.
    """

    name: str
    dataset: dict[str, Any]
    measure: str
    facts: dict[str, Any]

    @property
    def data_average(self) -> float | None:
        """Of the data's episodes, in the task's measure."""
        average = self.facts.get(f"mean_{self.measure}")
        return None if isinstance(average, str) else average


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one algorithm with one setting on one task; N seeds in all.

    Attributes:
      task: The task.
      algorithm: Its name.
      label: The name, with the settings that tell groups of the algorithm apart.
      runs: Those that came to their end.
      seeds: (N,).
    """

    task: Task
    algorithm: str
    label: str
    runs: list[RecordedRun]

    @property
    def seeds(self) -> list[int]:
        return [seed for run in self.runs for seed in run.seeds]

    @property
    def num_diverged(self) -> int:
        return sum(why is not None for run in self.runs for why in run.diverged)

    @property
    def last(self) -> np.ndarray:
        """Of the last policies in the task's measure, (N,), NaN for seeds without."""
        return np.concatenate([run.last(self.task.measure) for run in self.runs])

    @property
    def judged(self) -> np.ndarray:
        """`last` of the seeds that have one."""
        return self.last[~np.isnan(self.last)]

    @property
    def value_error(self) -> np.ndarray:
        """Learned minus actual value of the last policies, of the seeds that have both."""
        learned, actual = (
            np.concatenate([run.last(name) for run in self.runs]) for name in recorded.VALUES
        )
        error = learned - actual
        return error[~np.isnan(error)]

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Updates before evaluations, (K,), and the measure by seed, (K, N), NaN where without."""
        steps = np.unique(np.concatenate([run.evaluated for run in self.runs]))
        scores = np.full((len(steps), len(self.seeds)), np.nan)
        first = 0
        for run in self.runs:
            rows, columns = np.isin(steps, run.evaluated), slice(first, first + len(run.seeds))
            if len(run.evaluated):
                scores[rows, columns] = run.columns[self.task.measure]
            first = columns.stop
        return steps, scores

    @property
    def best(self) -> np.ndarray:
        """The best of all evaluations of each seed that has any."""
        _, scores = self.curve
        return np.nanmax(scores[:, ~np.isnan(scores).all(0)], axis=0, initial=-np.inf)


@dataclasses.dataclass(frozen=True)
class Study:
    """What a report is made of.

    Attributes:
      tasks: With some run that came to its end.
      groups: By task, then algorithm.
      problems: A sentence for each thing that is not counted.
    """

    tasks: list[Task]
    groups: list[Group]
    problems: list[str]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(group.label for group in self.groups))

    def of(self, task: Task) -> list[Group]:
        return [group for group in self.groups if group.task is task]


def read_study(
    paths: Sequence[str | Path],
    describe: Callable[[dict[str, Any]], dict[str, Any]] = lambda dataset: {},
) -> Study:
    """Reads runs and sorts them by task and setting.

    Args:
      paths: Their directories.
      describe: The facts of a dataset, given its spec, where the runs have not recorded them.

    Raises:
      InputError: if none of them is of use.
    """
    runs: list[RecordedRun] = []
    problems: list[str] = []
    for path in dict.fromkeys(Path(path) for path in paths):
        try:
            runs.append(recorded.read(path))
        except InputError as error:
            problems.append(str(error))
    return study_of(runs, problems, describe)


def study_of(
    runs: Sequence[RecordedRun],
    problems: Sequence[str] = (),
    describe: Callable[[dict[str, Any]], dict[str, Any]] = lambda dataset: {},
) -> Study:
    """A study of runs that are read already; `problems` are those of others.

    Raises:
      InputError: if none of the runs can be counted.
    """
    problems = [*problems, *(remark for run in runs for remark in run.remarks)]
    counted = _without_twins([run for run in runs if _counts(run, problems)], problems)
    if not counted:
        why = f" ({problems[0]})" if problems else ""
        raise InputError(
            f"none of the given runs has ended, with evaluations{why}; "
            "give directories of finished runs"
        )
    by_task: dict[str, list[RecordedRun]] = {}
    for run in counted:
        by_task.setdefault(_task_key(run), []).append(run)
    tasks = {key: _task(key, of_task, by_task, describe) for key, of_task in by_task.items()}
    groups: dict[tuple[str, str, str], list[RecordedRun]] = {}
    for key, of_task in by_task.items():
        for run in of_task:
            settings = json.dumps(run_settings(run), sort_keys=True)
            groups.setdefault((key, run.algorithm, settings), []).append(run)
    label_of = labels({key: of_group[0] for key, of_group in groups.items()})
    found = [
        Group(tasks[key[0]], key[1], label_of[key], of_group) for key, of_group in groups.items()
    ]
    tasks_in_order = sorted(tasks.values(), key=lambda task: task.name)
    found.sort(key=lambda group: (group.task.name, group.algorithm, group.label))
    return Study(tasks_in_order, found, problems)


def differing(groups: Sequence[Group]) -> dict[str, dict[str, list[Group]]]:
    """Settings that are not the same for all groups that have them: the groups of each value."""
    found: dict[str, dict[str, list[Group]]] = {}
    for group in groups:
        for name, value in run_settings(group.runs[0]).items():
            found.setdefault(name, {}).setdefault(json.dumps(value), []).append(group)
    return {name: values for name, values in found.items() if len(values) > 1}


def compared(study: Study) -> tuple[list[Task], dict[str, list[np.ndarray]]]:
    """The tasks on which half of the labels or more have scores, and by label that has some on all
    of these its scores, T arrays (S,)."""
    scores = {
        task.name: {group.label: group.judged for group in study.of(task) if len(group.judged)}
        for task in study.tasks
        if task.measure == "score"
    }
    tasks = [
        task for task in study.tasks if 2 * len(scores.get(task.name, ())) >= len(study.labels)
    ]
    labels = [label for label in study.labels if all(label in scores[t.name] for t in tasks)]
    return tasks, {label: [scores[t.name][label] for t in tasks] for label in labels if tasks}


def _counts(run: RecordedRun, problems: list[str]) -> bool:
    """Whether a run has something to count; adds to `problems` if not."""
    if run.ending == "unfinished":
        problems.append(
            f"{run.path} has not ended (step {run.step:,} of {run.settings['num_steps']:,} or "
            "more) and is not counted; run its command again to finish it"
        )
        return False
    if run.ending == "failed":
        problems.append(f"{run.path} failed: {run.reason or 'it does not say why'}")
    has_ended = len(run.evaluated) > 0 and run.step >= run.settings["num_steps"]
    all_lost = None not in run.diverged
    if not has_ended and not all_lost:
        what = "no evaluations" if len(run.evaluated) == 0 else f"ended at step {run.step:,}"
        problems.append(
            f"{run.path} has {what} and is not counted; train it with evaluations, or finish it"
        )
    elif not all_lost and np.isnan(run.last("return")).all():
        problems.append(f"{run.path} has no evaluation of its last policies: its seeds lack scores")
    return has_ended or all_lost


def _without_twins(runs: list[RecordedRun], problems: list[str]) -> list[RecordedRun]:
    """Without runs that repeat a seed of another with the same settings, which is no more data."""
    kept: dict[tuple, Path] = {}
    found = []
    for run in runs:
        setting = _task_key(run), run.algorithm, json.dumps(run_settings(run), sort_keys=True)
        if twins := [s for s in run.seeds if (*setting, s) in kept]:
            problems.append(
                f"{run.path} repeats seed {twins[0]} of {kept[*setting, twins[0]]} with the same "
                "settings and is not counted; train with another seed=…"
            )
            continue
        kept |= {(*setting, seed): run.path for seed in run.seeds}
        found.append(run)
    return found


def _task_key(run: RecordedRun) -> str:
    judged_by = "env_id", "env_kwargs", "max_episode_steps", "reference_scores"
    data = run.dataset["fingerprint"] or run.dataset["name"]
    return json.dumps([data, *(run.dataset.get(name) for name in judged_by)])


def _task(
    key: str,
    runs: list[RecordedRun],
    by_task: Mapping[str, list[RecordedRun]],
    describe: Callable[[dict[str, Any]], dict[str, Any]],
) -> Task:
    dataset = runs[0].dataset
    name = short_name(dataset["name"])
    names = [short_name(others[0].dataset["name"]) for others in by_task.values()]
    if names.count(name) > 1:
        name = f"{name} ({list(by_task).index(key) + 1})"
    scored = all("score" in run.columns or not len(run.evaluated) for run in runs)
    whole = [run for run in runs if run.settings.get("best_fraction", 1.0) == 1.0]
    facts = next((f for run in whole if (f := _facts(run))), None) or describe(dataset)
    return Task(name, dataset, "score" if scored else "return", facts)


def _facts(run: RecordedRun) -> dict[str, Any]:
    facts = run.environment.get("dataset")
    facts = facts if isinstance(facts, dict) else {}
    return {k: v for k, v in facts.items() if isinstance(v, int | float | str)}


def short_name(name: str) -> str:
    """A dataset's name, of a file without folder and ending."""
    path = Path(name)
    return path.stem if path.suffix in (".hdf5", ".h5", ".npz") else name
