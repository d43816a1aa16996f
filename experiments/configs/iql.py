"""Presets of IQL, and of XQL, SQL and EQL, which are recipes of it."""

from experiments.configs.common import QUICK, QUICK_ANT, SMALL, pointmaze, quick, quick_antmaze
from experiments.presets import Preset

DROPOUT = {"expectile": 0.7, "inverse_temperature": 0.5, "actor_dropout_percent": 10}

PRESETS = {
    "pointmaze": pointmaze(SMALL | {"num_decay_steps": 10_000}),
    "gym": Preset(scale_rewards_by_return_range=True),
    "antmaze": Preset(config={"expectile": 0.9, "inverse_temperature": 10.0}, reward_bias=-1.0),
    "adroit": Preset(config=DROPOUT),
    "kitchen": Preset(config=DROPOUT),
}

RECIPES = {
    "xql": {"config": {"value_loss": "gumbel", "value_temperature": 2.0, "max_exponent": 7.0}},
    "sql": {
        "config": {"value_loss": "sparse", "policy_weight": "linear", "value_temperature": 1.0}
    },
    "eql": {
        "config": {
            "value_loss": "exponential",
            "value_temperature": 2.0,
            "inverse_temperature": 5.0,
        }
    },
    "quick_antmaze": quick_antmaze(
        QUICK_ANT | {"expectile": 0.7, "inverse_temperature": 3.0, "num_decay_steps": 60_000}
    ),
    "quick": quick(QUICK | {"num_decay_steps": 20_000, "inverse_temperature": 0.5}),
}
