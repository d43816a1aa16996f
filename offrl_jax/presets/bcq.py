"""Presets of BCQ.

  offrl train --algorithm=bcq
      PointMaze umaze, 1.5 minutes on two CPU cores: score 56.0 (the data 7.0)
  offrl train --algorithm=bcq --dataset=hopper.hdf5 --recipe=quick
      7 minutes on two CPU cores: 63.5 on hopper-medium-expert rebuilt (the data 65.2), 68.3 over
      20 episodes
  offrl train --algorithm=bcq --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md.
PointMaze's and quick are ours, with the model pretrained and then frozen. The others are the
authors' (sfujim/BCQ at 4876f7e), who publish one setting for all: the defaults. BRAC's authors used
Φ = .15 and an actor rate of 3e-5.
"""

from offrl_jax.presets.common import MLP_128, MLP_256, SMALL, pointmaze, quick
from offrl_jax.presets.preset import Preset

MODEL = {
    "behavior_network": MLP_128,
    "behavior_learning_rate": 1e-3,
    "num_behavior_steps": 5_000,
}
AUTHORS = Preset()

PRESETS = {
    "pointmaze": pointmaze(SMALL | MODEL),
    "gym": AUTHORS,
    "antmaze": AUTHORS,
    "adroit": AUTHORS,
    "kitchen": AUTHORS,
}

QUICK_MODEL = {
    "actor_learning_rate": 1e-3,
    "behavior_network": MLP_256,
    "num_behavior_steps": 20_000,
}

RECIPES = {"quick": quick(SMALL | MODEL | QUICK_MODEL, 12_000)}
