"""Presets of AWAC."""

from experiments.configs.common import (
    QUICK,
    QUICK_ANT,
    SMALL,
    WIDE,
    pointmaze,
    quick,
    quick_antmaze,
)
from experiments.presets import Preset

PRESETS = {
    "pointmaze": pointmaze(SMALL | {"advantage_temperature": 10.0}),
    "gym": Preset(config=WIDE, normalize_observations=True),
    "antmaze": Preset(
        config=WIDE | {"advantage_temperature": 0.1}, normalize_observations=True, reward_bias=-1.0
    ),
    "adroit": Preset(config=WIDE | {"advantage_temperature": 0.1}, normalize_observations=True),
    "kitchen": Preset(config=WIDE | {"advantage_temperature": 0.1}, normalize_observations=True),
}

RECIPES = {
    "rlkit": {
        "config": {
            "weight": "softmax",
            "advantage_temperature": 2.0,
            "actor_hidden_sizes": (256, 256, 256, 256),
            "critic_hidden_sizes": (256, 256),
            "batch_size": 1024,
        },
        "num_steps": 50_000,
        "normalize_observations": False,
    },
    "quick_antmaze": quick_antmaze(QUICK_ANT | {"advantage_temperature": 1.0}),
    "quick": quick(QUICK | {"advantage_temperature": 5.0}),
}
