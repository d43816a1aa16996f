"""Presets of CRR.

  offrl train --algorithm=crr
      PointMaze umaze, 90 s on two CPU cores: score 103.8 (the data 7.0)
  offrl train --algorithm=crr --recipe=binary
      PointMaze umaze: 22.2, the value running away
  offrl train --algorithm=crr --dataset=hopper.hdf5 --recipe=quick
      10 minutes on two CPU cores: 113.2 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=crr --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      15 minutes on two CPU cores: the goal in 10.0% of the episodes (bc 8.9%)
  offrl train --algorithm=crr --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and the quick ones are ours, with two critics and averaged targets. The others are acme's defaults
(agents/jax/crr at 41a13e2); nobody published settings by domain, and AntMaze takes IQL's rewards.
"""

from offrl_jax.presets.common import QUICK, QUICK_ANT, SMALL, pointmaze, quick, quick_antmaze
from offrl_jax.presets.preset import Preset

SOFT = {"num_critics": 2, "target_update_period": 1}

PRESETS = {
    "pointmaze": pointmaze(SMALL | SOFT | {"advantage_temperature": 10.0}),
    "gym": Preset(),
    "antmaze": Preset(reward_bias=-1.0),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "binary": {"config": {"weight": "binary"}},
    "binary_max": {"config": {"weight": "binary", "baseline": "max"}},
    "cwp": {"config": {"num_action_samples": 10}},
    "quick_antmaze": quick_antmaze(QUICK_ANT | SOFT),
    "quick": quick(QUICK | SOFT | {"advantage_temperature": 5.0}),
}
