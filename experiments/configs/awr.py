"""Presets of AWR."""

from experiments.configs.common import pointmaze, quick, quick_antmaze
from experiments.presets import Preset

BRIEF = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}
SIZES = {"actor_hidden_sizes": (128, 128), "critic_hidden_sizes": (128, 128), "batch_size": 128}
AUTHORS = {
    "optimizer": "sgd",
    "actor_learning_rate": 5e-5,
    "critic_learning_rate": 1e-2,
}

PRESETS = {
    "pointmaze": pointmaze(BRIEF | SIZES),
    "gym": Preset(config=AUTHORS, normalize_observations=True),
    "antmaze": Preset(reward_bias=-1.0),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "quick": quick(BRIEF | {"actor_hidden_sizes": (256, 256), "critic_hidden_sizes": (256, 256)}),
    "quick_antmaze": quick_antmaze(BRIEF | SIZES | {"batch_size": 256, "discount": 0.995}),
}
