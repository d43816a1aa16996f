"""Presets of AWAC.

  offrl train --algorithm=awac
      PointMaze umaze, 80 s on two CPU cores: score 93.5 (the data 7.0)
  offrl train --algorithm=awac --dataset=hopper.hdf5 --recipe=quick
      9 minutes on two CPU cores: 110.3 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=awac --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      12 minutes on two CPU cores: the goal in 14.4% of the episodes (bc 8.9%)
  offrl train --algorithm=awac --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and the quick ones are ours: a large λ, since with CORL's 1/3 the value runs away on the maze. The
others are CORL's (configs/offline/awac at 6afec90), with AntMaze's rewards less 1; it has none
for Kitchen, which takes Adroit's. rlkit is the authors' setting for MuJoCo (examples/awac/mujoco
at ac45a9d).
"""

from offrl_jax.networks.modules import MLP
from offrl_jax.presets.common import (
    MLP_256,
    QUICK,
    QUICK_ANT,
    SMALL,
    WIDE,
    pointmaze,
    quick,
    quick_antmaze,
)
from offrl_jax.presets.preset import Preset

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
            "actor_network": MLP((256,) * 4),
            "critic_network": MLP_256,
            "batch_size": 1024,
            "actor_learning_rate": 3e-4,
            "critic_learning_rate": 3e-4,
            "target_update_rate": 0.005,
        },
        "num_steps": 50_000,
        "normalize_observations": False,
    },
    "quick_antmaze": quick_antmaze(QUICK_ANT | {"advantage_temperature": 1.0}),
    "quick": quick(QUICK | {"advantage_temperature": 5.0}),
}
