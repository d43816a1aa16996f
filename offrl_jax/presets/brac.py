"""Presets of BRAC and KL-control.

  offrl train --algorithm=brac --recipe=kl_control
      PointMaze umaze, 1 minute on two CPU cores: score 100.4 (the data 7.0); the same without
      --recipe, as KL(π‖β) with a fixed weight in actor and value is BRAC's default too
  offrl train --algorithm=brac --config.variant=p
      PointMaze umaze: score 68.8
  offrl train --algorithm=brac --dataset=hopper.hdf5 --recipe=quick
      9 minutes on two CPU cores: 111.4 on hopper-medium-expert rebuilt (the data 65.2); 105.1 with
      --config.variant=p
  offrl train --algorithm=brac --dataset=hopper.hdf5
      a million steps after a million of pretraining, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md.
kl_control pins what makes BRAC the KL-control of Jaques et al.: variant v, KL(π‖β), no adaptation,
no entropy, no warm-up. PointMaze's and quick are ours; their weights 3 and 20 belong to their
rewards. The others are the setting of BRAC's D4RL evaluation (defaults, and a longer pretraining),
one for all.
Where a critic estimates the divergence the authors' scripts use a weight of 10 and an actor rate of
3e-6.
"""

from offrl_jax.presets.common import QUICK, SMALL, pointmaze, quick
from offrl_jax.presets.preset import Preset

BRIEF = {"behavior_learning_rate": 1e-3, "num_behavior_steps": 5_000, "num_warmup_steps": 0}
KL_CONTROL = {
    "variant": "v",
    "divergence": "kl",
    "divergence_weight_learning_rate": 0.0,
    "initial_temperature": 0.0,
    "num_warmup_steps": 0,
}
D4RL = Preset(config={"num_behavior_steps": 1_000_000})

PRESETS = {
    "pointmaze": pointmaze(SMALL | BRIEF | {"divergence_weight": 3.0}),
    "gym": D4RL,
    "antmaze": D4RL,
    "adroit": D4RL,
    "kitchen": D4RL,
}

RECIPES = {
    "kl_control": {"config": KL_CONTROL},
    "quick": quick(QUICK | BRIEF | {"num_behavior_steps": 20_000, "divergence_weight": 20.0}),
}
