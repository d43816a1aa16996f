"""What a preset holds and how one is found."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from offrl_jax import data
from offrl_jax.data import Data
from offrl_jax.types import InputError, did_you_mean

DOMAINS = ("pointmaze", "gym", "antmaze", "adroit", "kitchen", "discrete", "other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that belong together: a config, a budget and how the data is prepared."""

    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_steps: int = 1_000_000
    normalize_observations: bool = False
    reward_scale: float = 1.0
    reward_bias: float = 0.0
    scale_rewards_by_return_range: bool = False


def find_preset(algorithm: str, domain: str, recipes: Sequence[str] = ()) -> Preset:
    """The preset of a domain in `offrl_jax/presets/<algorithm>.py`, bare defaults if none, with
    the settings of named recipes on top, in order.

    Raises:
      InputError: if the algorithm has no such recipe.
    """
    module = f"offrl_jax.presets.{algorithm}"
    is_ours = algorithm.isidentifier() and importlib.util.find_spec(module)
    found = importlib.import_module(module) if is_ours else None
    preset = getattr(found, "PRESETS", {}).get(domain, Preset())
    known = getattr(found, "RECIPES", {})
    for recipe in recipes:
        if recipe not in known:
            have = ", ".join(known) or "no recipe at all"
            hint = did_you_mean(recipe, known)
            raise InputError(f"{algorithm} has no recipe {recipe!r}; it has {have}{hint}")
        changes = dict(known[recipe])
        config = preset.config | changes.pop("config", {})
        preset = dataclasses.replace(preset, config=config, **changes)
    return preset


def prepared(dataset: Data, preset: Preset) -> Data:
    """The dataset with the preset's transforms of rewards and observations."""
    if preset.scale_rewards_by_return_range:
        dataset = data.scale_rewards_by_return_range(dataset)
    dataset = data.transform_rewards(dataset, scale=preset.reward_scale, bias=preset.reward_bias)
    return data.normalize_observations(dataset) if preset.normalize_observations else dataset
