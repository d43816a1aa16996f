"""Presets of BEAR.

  offrl train --algorithm=bear
      PointMaze umaze, 2 to 5 minutes on two CPU cores: score 24.9 (the data 7.0)
  offrl train --algorithm=bear --dataset=hopper.hdf5 --recipe=quick
      8 minutes on two CPU cores: 68.7 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=bear --dataset=hopper.hdf5
      a million steps, for a GPU; not measured. HalfCheetah: --config.mmd_kernel=gaussian

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md.
PointMaze's and quick are ours: the model pretrained and then frozen, a faster multiplier, a shorter
warm-up. The others are the authors' for D4RL (rail-berkeley/rlkit at ac45a9d), who publish one
setting and a kernel by task: the defaults. Watch actor/multiplier_at_clip: the biased MMD of equal
policies can exceed ε, and then BEAR only imitates.
"""

from offrl_jax.presets.bcq import MODEL, QUICK_MODEL
from offrl_jax.presets.common import SMALL, pointmaze, quick
from offrl_jax.presets.preset import Preset

SMALL_BEAR = SMALL | MODEL | {"multiplier_learning_rate": 1e-2, "num_warmup_steps": 1_000}
AUTHORS = Preset()

PRESETS = {
    "pointmaze": pointmaze(SMALL_BEAR),
    "gym": AUTHORS,
    "antmaze": AUTHORS,
    "adroit": AUTHORS,
    "kitchen": AUTHORS,
}

RECIPES = {"quick": quick(SMALL_BEAR | QUICK_MODEL | {"num_warmup_steps": 2_000}, 12_000)}
