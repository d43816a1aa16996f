"""Runs without files: stand-ins in memory for the directory and the checkpoints."""

import json
from collections.abc import Callable
from typing import Any

from offrl_jax.files import finite


class RowList:
    """`RowFile` in memory."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []

    def append(self, row: dict[str, Any]) -> dict[str, Any]:
        """Adds a row and returns it, null where a number is not finite."""
        self.rows.append(finite(row))
        return self.rows[-1]

    def count(self) -> int:
        return len(self.rows)

    def last(self) -> dict[str, Any] | None:
        """The newest row."""
        return self.rows[-1] if self.rows else None


class InMemory:
    """`RunDirectory` in memory, for a run that always starts from the beginning.

    Attributes:
      settings: What `config.json` would hold.
      environment: What `environment.json` would hold.
      metrics: One row per chunk.
      evaluations: One row per evaluation.
      facts: Facts about the end, as `DONE` or `FAILED.json` would hold them.
      failed: Why the run counts as failed, or None.
    """

    path = None

    def __init__(self, settings: dict[str, Any], environment: dict[str, Any]):
        self.settings = json.loads(json.dumps(finite(settings)))
        self.environment = json.loads(json.dumps(environment))
        self.metrics, self.evaluations = RowList(), RowList()
        self.facts: dict[str, Any] = {}
        self.failed: str | None = None

    def marks(self) -> dict[str, list]:
        return {}

    def cut(self, marks: dict[str, list], evaluated: int | None = None) -> None:
        pass

    def adopt(self) -> None:
        pass

    def is_done(self) -> bool:
        return False

    def end(self, failed: str | None, facts: dict[str, Any]) -> None:
        self.failed, self.facts = failed, facts

    def close(self) -> None:
        pass


class NoCheckpoints:
    """`Checkpoints` of a run that cannot be resumed."""

    def restore(self, template: Any, accept: Callable[[dict[str, Any]], None]) -> None:
        pass

    def forget_damaged(self) -> None:
        pass

    def save(self, step: int, state: Any, facts: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass
