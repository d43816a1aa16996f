"""What others have published for D4RL's tasks, for orientation: data and environments differ."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).with_name("published.json")


class Published(NamedTuple):
    """A score of D4RL's.

    Attributes:
      method: As its source names it.
      score: Of the last policies; 0 random, 100 expert.
      std: Over seeds, None where the source does not give it.
      dataset: With the version.
      source: The name of who published it.
    """

    method: str
    score: float
    std: float | None
    dataset: str
    source: str

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.1f}"
        version = self.dataset.rpartition("-")[2]
        return f"{self.method} {self.score:.1f}{spread} (D4RL {version}, {self.source})"


def published(dataset: str, algorithm: str) -> list[Published]:
    """Scores of an algorithm on the task of D4RL that a dataset's name resembles.

    Args:
      dataset: A file's name or an id, such as `hopper_medium-v2` or `D4RL/door/human-v2`.
      algorithm: As in `ALGORITHMS`.
    """
    table = _table()
    name = re.sub(r"[/_]", "-", re.sub(r"-v\d+$", "", dataset))
    return [
        Published(
            **{k: row.get(k) for k in Published._fields if k != "source"},
            source=table["sources"][row["source"]]["name"],
        )
        for row in table["scores"]
        if row["algorithm"] == algorithm and f"-{name}".endswith(f"-{row['task']}")
    ]


def sources(scores: Iterable[Published]) -> list[str]:
    """Where scores were read, a sentence each source."""
    names = {score.source for score in scores}
    found = _table()["sources"].values()
    return [f"{source['name']}: {source['where']}" for source in found if source["name"] in names]


def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text())
