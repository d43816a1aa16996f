"""What a run's directory says of it, read with no trust in it."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax.reports.wording import shown
from offrl_jax.runs.directory import CONFIG, DONE, FAILED
from offrl_jax.types import InputError

JUDGED = "score", "return"
VALUES = "learned_value", "actual_value"


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """A run of S seeds with K evaluations.

    Attributes:
      path: Its directory.
      settings: `config.json`.
      environment: `environment.json`, empty if there is none.
      ending: "done", "failed" or "unfinished".
      reason: Why it failed.
      step: Updates that it took; of an unfinished run, those on record.
      diverged: By seed, the sign of its divergence, or None.
      seconds: Wall time of its last session by part.
      rate: Updates a second of all seeds at once, the median of its chunks; NaN if unknown.
      evaluated: Updates before each evaluation, (K,).
      columns: Of `score`, `return`, `learned_value` and `actual_value` what there is, (K, S), NaN
        where a seed has none.
      remarks: What is wrong with its files.
    """

    path: Path
    settings: dict[str, Any]
    environment: dict[str, Any]
    ending: str
    reason: str
    step: int
    diverged: list[str | None]
    seconds: dict[str, float]
    rate: float
    evaluated: np.ndarray
    columns: dict[str, np.ndarray]
    remarks: list[str]

    @property
    def algorithm(self) -> str:
        return self.settings["algorithm"]

    @property
    def dataset(self) -> dict[str, Any]:
        """The dataset's spec."""
        return self.settings["dataset"]

    @property
    def seeds(self) -> range:
        return range(self.settings["seed"], self.settings["seed"] + self.settings["num_seeds"])

    def last(self, column: str) -> np.ndarray:
        """Of the last policies, (S,); NaN for a seed without."""
        is_last = self.evaluated == self.step
        if column not in self.columns or not is_last.any():
            return np.full(len(self.seeds), np.nan)
        return self.columns[column][is_last][-1]


def read(path: str | Path) -> RecordedRun:
    """Reads a run's records. Damaged rows are left out, with a remark.

    Raises:
      InputError: if there is no run, or its files cannot be read.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise InputError(f"{path} is no run directory: it has no {CONFIG}; give one that has")
    settings = _checked(_object(path / CONFIG), path / CONFIG)
    remarks: list[str] = []
    environment = {}
    try:
        environment = _object(path / "environment.json")
    except InputError as error:
        remarks.append(str(error))
    ending, facts = "unfinished", {}
    for name, meaning in ((DONE, "done"), (FAILED, "failed")):
        if (path / name).exists():
            ending = meaning
            try:
                facts = _object(path / name)
            except InputError as error:
                remarks.append(str(error))
    evaluations = _rows(path / "evaluations.jsonl", remarks)
    chunks = list(_rows(path / "metrics.jsonl", remarks))
    return from_rows(path, settings, environment, ending, facts, evaluations, chunks, remarks)


def from_rows(
    path: Path,
    settings: dict[str, Any],
    environment: dict[str, Any],
    ending: str,
    facts: dict[str, Any],
    evaluations: Iterable[dict[str, Any]],
    chunks: Sequence[dict[str, Any]],
    remarks: list[str],
) -> RecordedRun:
    """A run from what its files hold, or would hold of one in memory.

    Args:
      path: Its directory, or another name.
      settings: `config.json`.
      environment: `environment.json`.
      ending: "done", "failed" or "unfinished".
      facts: `DONE` or `FAILED.json`.
      evaluations: The rows of `evaluations.jsonl`.
      chunks: The rows of `metrics.jsonl`.
      remarks: What is wrong so far; more is added.
    """
    num_seeds = settings["num_seeds"]
    rows = [
        row
        for row in evaluations
        if _took_place(row, path.name, remarks) and _has_seeds(row, num_seeds, path, remarks)
    ]
    rows = [row for _, row in sorted({row["step"]: row for row in rows}.items())]
    speeds = [x for row in chunks if _is_number(x := row.get("steps_per_second"))]
    names = [name for name in (*JUDGED, *VALUES) if any(name in row for row in rows)]
    lost = [None] * num_seeds
    steps = [row["step"] for row in (*rows, *chunks) if _is_count(row.get("step"))]
    diverged = facts.get("diverged", lost)
    return RecordedRun(
        path=path,
        settings=settings,
        environment=environment,
        ending=ending,
        reason=str(facts.get("reason", "")),
        step=facts["step"] if _is_count(facts.get("step")) else max(steps, default=0),
        diverged=diverged if _is_list(diverged, num_seeds) else lost,
        seconds={k: v for k, v in _dict(facts.get("seconds")).items() if _is_number(v)},
        rate=float(np.median(speeds)) * num_seeds if speeds else float("nan"),
        evaluated=np.array([row["step"] for row in rows], np.int64),
        columns={name: _finite([row.get(name, lost) for row in rows]) for name in names},
        remarks=remarks,
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy it anew or run again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__} and no object; run again")
    return value


def _checked(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings, if they have what a report needs."""
    algorithm, dataset = settings.get("algorithm"), _dict(settings.get("dataset"))
    reference = dataset.get("reference_scores")
    wanted = {
        "algorithm": isinstance(algorithm, str) and shown(algorithm) == algorithm,
        "config": isinstance(settings.get("config"), dict),
        "num_steps": _is_count(settings.get("num_steps")),
        "num_seeds": _is_count(settings.get("num_seeds")) and 0 < settings["num_seeds"] <= 10_000,
        "seed": _is_count(settings.get("seed")),
        "num_evaluation_episodes": _is_count(settings.get("num_evaluation_episodes")),
        "dataset.name": isinstance(dataset.get("name"), str),
        "dataset.fingerprint": isinstance(dataset.get("fingerprint"), str),
        "dataset.env_id": isinstance(dataset.get("env_id"), str | None),
        "dataset.reference_scores": reference is None
        or (_is_list(reference, 2) and all(map(_is_number, reference))),
    }
    if missing := [name for name, is_good in wanted.items() if not is_good]:
        raise InputError(
            f"{path} is not as a training writes it (see its {missing[0]}); give directories of "
            "offrl_jax.cli.train or offrl_jax.runs.train"
        )
    return settings


def _rows(path: Path, remarks: list[str]) -> Iterable[dict[str, Any]]:
    """The file's whole rows; how many are damaged is remarked at the end."""
    if not path.exists():
        return
    num_damaged = 0
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        remarks.append(f"{path} cannot be read ({error})")
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and _is_count(row.get("step")):
            yield row
        else:
            num_damaged += 1
    if num_damaged:
        remarks.append(f"{num_damaged} damaged rows of {path} are left out")


def _took_place(row: dict[str, Any], name: str, remarks: list[str]) -> bool:
    """Whether an evaluation took place; a remark if it failed."""
    if "failed" in row:
        remarks.append(f"the evaluation of {name} at step {row['step']} failed: {row['failed']}")
    return "failed" not in row


def _has_seeds(row: dict[str, Any], num_seeds: int, path: Path, remarks: list[str]) -> bool:
    """Whether each column in the row holds a number or null a seed; a remark if not."""
    columns = [row[name] for name in (*JUDGED, *VALUES) if name in row]
    numbers = [x for values in columns if _is_list(values, num_seeds) for x in values]
    whole = "return" in row and all(_is_list(values, num_seeds) for values in columns)
    if not whole or not all(x is None or _is_number(x) for x in numbers):
        remarks.append(
            f"the row of step {row['step']} in {path}/evaluations.jsonl is not of {num_seeds} "
            "seeds' numbers and is left out"
        )
        return False
    return True


def _finite(values: list[list[float | None]]) -> np.ndarray:
    array = np.array(values, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)
