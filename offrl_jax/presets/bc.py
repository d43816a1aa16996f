"""Presets of behaviour cloning.

  offrl train --algorithm=bc
      PointMaze umaze, 30 s on two CPU cores: score 11.8 (the data 7.0)
  offrl train --algorithm=bc --dataset=hopper.hdf5 --recipe=quick
      3 minutes on two CPU cores: 111.6 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=bc --dataset=antmaze-fixed.hdf5 --recipe=quick_antmaze
      5 minutes on two CPU cores: the goal in 9.7% of 100 episodes a seed

PointMaze's is ours, with the networks and the budget of CQL's; measured results stand in
BUILD_NOTES.md. The others are CORL's (configs/offline/bc at eeeeef2; Kitchen has none there and
takes Gym's); give --best_fraction=0.1 for its 10% BC.
"""

from offrl_jax.presets.common import MLP_128, MLP_256, discrete, quick, quick_antmaze
from offrl_jax.presets.preset import Preset

SMALL = {"learning_rate": 1e-3, "network": MLP_128, "batch_size": 128}
CORL = Preset(config={"policy": "deterministic"}, normalize_observations=True)

PRESETS = {
    "pointmaze": Preset(config=SMALL, num_steps=10_000, normalize_observations=True),
    "gym": CORL,
    "antmaze": CORL,
    "adroit": CORL,
    "kitchen": CORL,
    "discrete": discrete(SMALL | {"policy": "categorical"}),
}

RECIPES = {
    "quick": quick(
        {
            "policy": "gaussian",
            "learning_rate": 1e-3,
            "network": MLP_256,
            "batch_size": 256,
        }
    ),
    "quick_antmaze": quick_antmaze(SMALL | {"policy": "gaussian", "batch_size": 256}),
}
