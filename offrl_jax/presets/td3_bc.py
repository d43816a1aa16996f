"""Presets of TD3+BC.

  offrl train --algorithm=td3_bc
      PointMaze umaze, 35 s on two CPU cores: score 63.7 (the data 7.0)
  offrl train --algorithm=td3_bc --dataset=hopper.hdf5 --recipe=quick
      5 minutes on two CPU cores: 76.3 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=td3_bc --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md.
PointMaze's and quick are ours; quick weighs Q less than the paper's 2.5, since critics are still
raw at 20,000 steps. The others are CORL's (configs/offline/td3_bc at eeeeef2), with AntMaze's
rewards less 1; it has none for Kitchen, which takes Gym's.
"""

from offrl_jax.presets.common import QUICK, SMALL, pointmaze, quick
from offrl_jax.presets.preset import Preset

CORL = Preset(normalize_observations=True)

PRESETS = {
    "pointmaze": pointmaze(SMALL),
    "gym": CORL,
    "antmaze": Preset(normalize_observations=True, reward_bias=-1.0),
    "adroit": CORL,
    "kitchen": CORL,
}

RECIPES = {"quick": quick(QUICK | {"q_weight": 1.0})}
