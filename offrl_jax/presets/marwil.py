"""Presets of MARWIL.

  offrl train --algorithm=marwil
      PointMaze umaze, 30 s on two CPU cores: score 68.0 (the data 7.0)
  offrl train --algorithm=marwil --dataset=hopper.hdf5 --recipe=quick
      4 minutes on two CPU cores: 97.1 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=marwil --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      5 minutes on two CPU cores: the goal in 15.6% of the episodes (bc 8.9%)

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and the quick ones are ours: the norm c follows the data. The others are RLlib's defaults, which
know no domains; rewards are not shifted for AntMaze, since cut episodes end in zero.
"""

from offrl_jax.presets.common import MLP_128, pointmaze, quick, quick_antmaze
from offrl_jax.presets.preset import Preset

BRIEF = {"learning_rate": 1e-3, "norm_update_rate": 1e-3}
SIZES = {"actor_network": MLP_128, "value_network": MLP_128, "batch_size": 128}

PRESETS = {
    "pointmaze": pointmaze(BRIEF | SIZES),
    "gym": Preset(),
    "antmaze": Preset(),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "quick": quick(BRIEF | {"batch_size": 256}),
    "quick_antmaze": quick_antmaze(BRIEF | SIZES | {"batch_size": 256}),
}
