"""What a preset holds and how one is found."""

import dataclasses
import importlib
import importlib.util
from typing import Any

DOMAINS = ("pointmaze", "gym", "antmaze", "adroit", "kitchen", "other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that belong together: a config, a budget and how the data is prepared."""

    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_steps: int = 1_000_000
    normalize_observations: bool = False
    reward_scale: float = 1.0
    reward_bias: float = 0.0
    scale_rewards_by_return_range: bool = False


def find_preset(algorithm: str, domain: str) -> Preset:
    """The preset in `experiments/configs/<algorithm>.py` of a domain; bare defaults if none."""
    module = f"experiments.configs.{algorithm}"
    if importlib.util.find_spec(module) is None:
        return Preset()
    return importlib.import_module(module).PRESETS.get(domain, Preset())
