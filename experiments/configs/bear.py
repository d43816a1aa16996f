"""Presets of BEAR.

PLACEHOLDER
"""

from experiments.configs.bcq import MODEL, QUICK_MODEL
from experiments.configs.common import SMALL, pointmaze, quick
from experiments.presets import Preset

SMALL_BEAR = SMALL | MODEL | {"multiplier_learning_rate": 1e-2, "num_warmup_steps": 1_000}
AUTHORS = Preset()

PRESETS = {
    "pointmaze": pointmaze(SMALL_BEAR),
    "gym": AUTHORS,
    "antmaze": AUTHORS,
    "adroit": AUTHORS,
    "kitchen": AUTHORS,
}

VARIANTS = {
    "quick": quick(SMALL_BEAR | QUICK_MODEL | {"num_warmup_steps": 2_000}, 12_000),
    "gaussian": {"config": {"mmd_kernel": "gaussian"}},
}
