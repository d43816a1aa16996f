"""Presets of ABM."""

from experiments.configs.common import QUICK, QUICK_ANT, SMALL, pointmaze, quick, quick_antmaze
from experiments.presets import Preset

BRIEF = {"num_baseline_samples": 8, "num_target_actions": 4, "prior_learning_rate": 1e-3}

PRESETS = {
    "pointmaze": pointmaze(SMALL | BRIEF | {"target_update_period": 1}),
    "gym": Preset(),
    "antmaze": Preset(reward_bias=-1.0),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "quick": quick(QUICK | BRIEF | {"target_update_period": 1}),
    "quick_antmaze": quick_antmaze(QUICK_ANT | BRIEF | {"target_update_period": 1}, 30_000),
}
