"""Presets of IQL."""

from experiments.configs.common import QUICK, SMALL, pointmaze, quick
from experiments.presets import Preset

PRESETS = {
    "pointmaze": pointmaze(SMALL | {"num_decay_steps": 10_000}),
    "gym": Preset(scale_rewards_by_return_range=True),
    "antmaze": Preset(config={"expectile": 0.9, "inverse_temperature": 10.0}, reward_bias=-1.0),
}

RECIPES = {"quick": quick(QUICK | {"num_decay_steps": 20_000})}
