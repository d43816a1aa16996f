"""Presets of AWR.

  offrl train --algorithm=awr
      PointMaze umaze, 50 s on two CPU cores: score 79.0 (the data 7.0)
  offrl train --algorithm=awr --dataset=hopper.hdf5 --recipe=quick
      6 minutes on two CPU cores: 111.0 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=awr --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      7 minutes on two CPU cores: the goal in 37.8% of the episodes (bc 8.9%)
  offrl train --algorithm=awr --config.standardize_advantage=false \\
      --config.advantage_temperature=0.05
      the paper's temperature, for rewards of its size; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and the quick ones are ours, with Adam. Gym's are the authors' rates (awr_configs.py of xbpeng/awr
at 831442f): momentum SGD, 5e-5 for the actor (HalfCheetah, Ant; Hopper 1e-4, Walker2d 2.5e-5), σ
= 0.4 (Ant 0.2). For the other domains nobody published settings: the defaults, AntMaze with IQL's
rewards.
"""

from offrl_jax.presets.common import MLP_128, MLP_256, pointmaze, quick, quick_antmaze
from offrl_jax.presets.preset import Preset

BRIEF = {"optimizer": "adam", "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}
SIZES = {"actor_network": MLP_128, "value_network": MLP_128, "batch_size": 128}
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
    "quick": quick(BRIEF | {"actor_network": MLP_256, "value_network": MLP_256}),
    "quick_antmaze": quick_antmaze(BRIEF | SIZES | {"batch_size": 256}),
}
