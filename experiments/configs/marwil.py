"""Presets of MARWIL."""

from experiments.configs.common import pointmaze, quick, quick_antmaze
from experiments.presets import Preset

BRIEF = {"learning_rate": 1e-3, "norm_update_rate": 1e-3}
SIZES = {"actor_hidden_sizes": (128, 128), "critic_hidden_sizes": (128, 128), "batch_size": 128}

PRESETS = {
    "pointmaze": pointmaze(BRIEF | SIZES),
    "gym": Preset(),
    "antmaze": Preset(reward_bias=-1.0),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "quick": quick(BRIEF | {"batch_size": 256}),
    "quick_antmaze": quick_antmaze(BRIEF | SIZES | {"batch_size": 256, "discount": 0.995}),
}
