"""What `experiments.safety` compares, and the settings that its tasks share."""

from typing import Any

DEFAULT = [
    *("csc", "csc_pointwise", "ordinary_sign", "no_shield", "lagrangian", "unconstrained"),
    "reinforce",
]
SETTINGS: dict[str, dict[str, Any]] = {"point": {}, "car": {}}  # by task
