"""Presets of CRR."""

from experiments.configs.common import QUICK, QUICK_ANT, SMALL, pointmaze, quick, quick_antmaze
from experiments.presets import Preset

SOFT = {"num_critics": 2, "target_update_period": 1}

PRESETS = {
    "pointmaze": pointmaze(SMALL | SOFT | {"advantage_temperature": 10.0}),
    "gym": Preset(),
    "antmaze": Preset(reward_bias=-1.0),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "binary": {"config": {"weight": "binary"}},
    "binary_max": {"config": {"weight": "binary", "baseline": "max"}},
    "cwp": {"config": {"num_action_samples": 10}},
    "quick_antmaze": quick_antmaze(QUICK_ANT | SOFT),
    "quick": quick(QUICK | SOFT | {"advantage_temperature": 5.0}),
}
