"""Presets of QT-Opt.

TODO
"""

from experiments.configs.common import SMALL, pointmaze

CRITIC = {k: v for k, v in SMALL.items() if not k.startswith("actor")}

PRESETS = {"pointmaze": pointmaze(CRITIC | {"num_lag_steps": 30})}

RECIPES = {
    "cross_entropy": {"config": {"loss": "cross_entropy"}, "reward_scale": 0.01},
    "momentum": {"config": {"optimizer": "sgd", "critic_learning_rate": 1e-4}},
}
