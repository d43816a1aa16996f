"""Presets of BCQ.

PLACEHOLDER
"""

from experiments.configs.common import SMALL, pointmaze, quick
from experiments.presets import Preset

MODEL = {
    "behavior_hidden_sizes": (128, 128),
    "behavior_learning_rate": 1e-3,
    "num_behavior_steps": 5_000,
}
AUTHORS = Preset()

PRESETS = {
    "pointmaze": pointmaze(SMALL | MODEL),
    "gym": AUTHORS,
    "antmaze": AUTHORS,
    "adroit": AUTHORS,
    "kitchen": AUTHORS,
}

QUICK_MODEL = {
    "actor_learning_rate": 1e-3,
    "behavior_hidden_sizes": (256, 256),
    "num_behavior_steps": 20_000,
}

VARIANTS = {"quick": quick(SMALL | MODEL | QUICK_MODEL, 12_000)}
