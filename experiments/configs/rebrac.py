"""Presets of ReBRAC.

PLACEHOLDER
"""

from experiments.configs.common import QUICK, SMALL, pointmaze, quick
from experiments.presets import Preset

ADROIT = Preset(config={"actor_bc_weight": 0.1, "critic_bc_weight": 0.1})

PRESETS = {
    "pointmaze": pointmaze(SMALL | {"actor_bc_weight": 0.003, "critic_bc_weight": 0.001}),
    "gym": Preset(
        config={
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 1e-3,
            "batch_size": 1024,
        }
    ),
    "antmaze": Preset(
        config={
            "discount": 0.999,
            "critic_learning_rate": 5e-5,
            "actor_bc_weight": 0.002,
            "critic_bc_weight": 0.001,
        },
        reward_scale=100.0,
    ),
    "adroit": ADROIT,
    "kitchen": ADROIT,
}

VARIANTS = {"quick": quick(QUICK | {"actor_bc_weight": 1.0})}
