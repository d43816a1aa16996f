"""Run directories as training leaves them, with numbers of one's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np

DATASET = {
    "observation_size": 3,
    "action_size": 1,
    "name": "data/task.hdf5",
    "env_id": "Hopper-v5",
    "env_kwargs": {},
    "max_episode_steps": None,
    "reference_scores": [0.0, 200.0],
    "fingerprint": "f" * 64,
}
FACTS = {"transitions": 1000, "episodes": 10, "mean_return": 50.0, "mean_score": 25.0}


def write_run(
    path: Path,
    scores: Any,
    *,
    algorithm: str = "bc",
    seed: int = 0,
    dataset: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    value_error: float | None = None,
    ending: str | None = "DONE",
    facts: dict[str, Any] | None = FACTS,
    diverged: list[str | None] | None = None,
    **settings,
) -> Path:
    """A run of `scores` (K, S), evaluated every 100 updates; returns are twice the scores."""
    scores = np.asarray(scores, float)
    num_evaluations, num_seeds = scores.shape
    last = 100 * num_evaluations
    path.mkdir(parents=True)
    _write(
        path / "config.json",
        {
            "algorithm": algorithm,
            "config": {"discount": 0.99, "batch_size": 8} | (config or {}),
            "num_steps": last,
            "num_seeds": num_seeds,
            "seed": seed,
            "seed_batch": None,
            "num_evaluations": num_evaluations,
            "num_evaluation_episodes": 7,
            "dataset": DATASET | (dataset or {}),
            "discount": 0.99,
        }
        | settings,
    )
    environment = {"python": "3.11", "device_kind": "abacus", "commit": "c0ffee"}
    environment |= {"versions": {"jax": "9.9.9"}} | ({"dataset": facts} if facts else {})
    _write(path / "environment.json", environment)
    with (path / "evaluations.jsonl").open("w") as file:
        for k, row in enumerate(scores):
            by_seed = [None if np.isnan(x) else x for x in row]
            line = {
                "step": 100 * (k + 1),
                "return": [x and 2 * x for x in by_seed],
                "score": by_seed,
                "actual_value": [x and 1.0 for x in by_seed],
            }
            if value_error is not None:
                line["learned_value"] = [x and 1.0 + value_error + i for i, x in enumerate(by_seed)]
            file.write(json.dumps(line) + "\n")
    with (path / "metrics.jsonl").open("w") as file:
        for k in range(num_evaluations):
            row = {"step": 100 * (k + 1), "steps_per_second": 50.0, "actor/loss": [1.0] * num_seeds}
            file.write(json.dumps(row) + "\n")
    if ending is not None:
        told = {"step": last, "diverged": diverged or [None] * num_seeds}
        told |= {"seconds": {"start": 1.0, "training": 6.0, "evaluation": 1.0}}
        _write(path / ending, told | ({"reason": "a reason"} if ending != "DONE" else {}))
    return path


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
