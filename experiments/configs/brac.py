"""Presets of BRAC.

PLACEHOLDER
"""

from experiments.configs.common import QUICK, SMALL, pointmaze, quick
from experiments.presets import Preset

BRIEF = {"behavior_learning_rate": 1e-3, "num_behavior_steps": 5_000, "num_warmup_steps": 0}
KL_CONTROL = {
    "variant": "v",
    "divergence": "kl",
    "divergence_weight_learning_rate": 0.0,
    "initial_temperature": 0.0,
}
D4RL = Preset(config={"num_behavior_steps": 1_000_000})

PRESETS = {
    "pointmaze": pointmaze(SMALL | BRIEF | {"divergence_weight": 3.0}),
    "gym": D4RL,
    "antmaze": D4RL,
    "adroit": D4RL,
    "kitchen": D4RL,
}

VARIANTS = {
    "kl_control": {"config": KL_CONTROL},
    "quick": quick(QUICK | BRIEF | {"num_behavior_steps": 20_000, "divergence_weight": 20.0}),
}
