"""What a preset holds and how one is found."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from offrl_jax.types import InputError

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


def find_preset(algorithm: str, domain: str, variants: Sequence[str] = ()) -> Preset:
    """The preset of a domain in `experiments/configs/<algorithm>.py`, bare defaults if none, with
    the settings of named variants on top, in order.

    Raises:
      InputError: if the algorithm has no such variant.
    """
    module = f"experiments.configs.{algorithm}"
    found = importlib.import_module(module) if importlib.util.find_spec(module) else None
    preset = getattr(found, "PRESETS", {}).get(domain, Preset())
    known = getattr(found, "VARIANTS", {})
    for variant in variants:
        if variant not in known:
            raise InputError(
                f"{algorithm} has no variant {variant!r}; it has {', '.join(known) or 'none'}"
            )
        changes = dict(known[variant])
        config = preset.config | changes.pop("config", {})
        preset = dataclasses.replace(preset, config=config, **changes)
    return preset
