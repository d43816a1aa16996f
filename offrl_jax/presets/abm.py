"""Presets of ABM.

  offrl train --algorithm=abm
      PointMaze umaze, 3 minutes on two CPU cores: score 58.1 (the data 7.0)
  offrl train --algorithm=abm --dataset=hopper.hdf5 --recipe=quick
      7 minutes on two CPU cores: 39.8 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=abm --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      the goal in 12.2% of the episodes after 15,000 of its 30,000 steps (bc 8.9%), 8 minutes
  offrl train --algorithm=abm --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and the quick ones are ours, with fewer actions and averaged targets. The others are the defaults,
which follow acme's MPO; the paper has no tasks of these domains; nor are rewards shifted for
AntMaze, since cut episodes end in zero.
"""

from offrl_jax.presets.common import (
    MLP_128,
    QUICK,
    QUICK_ANT,
    SMALL,
    pointmaze,
    quick,
    quick_antmaze,
)
from offrl_jax.presets.preset import Preset

BRIEF = {"num_baseline_samples": 8, "num_target_actions": 4, "prior_learning_rate": 1e-3}

PRESETS = {
    "pointmaze": pointmaze(SMALL | BRIEF | {"target_update_period": 1}),
    "gym": Preset(),
    "antmaze": Preset(),
    "adroit": Preset(),
    "kitchen": Preset(),
}

RECIPES = {
    "quick": quick(
        QUICK
        | BRIEF
        | {
            "improvement_epsilon": 0.01,
            "target_update_period": 1,
            "actor_network": MLP_128,
            "critic_network": MLP_128,
            "batch_size": 128,
        }
    ),
    "quick_antmaze": quick_antmaze(QUICK_ANT | BRIEF | {"target_update_period": 1}, 30_000),
}
