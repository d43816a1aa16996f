"""Presets of behaviour cloning.

  python -m experiments.train --algorithm=bc      # PointMaze, under a minute on two CPU cores

PointMaze's is ours, with the networks and the budget of CQL's; measured results stand in
BUILD_NOTES.md. The others are CORL's (configs/offline/bc at eeeeef2; Kitchen has none there and
takes Gym's); give --best_fraction=0.1 for its 10% BC.
"""

from experiments.configs.common import quick
from experiments.presets import Preset

SMALL = {"learning_rate": 1e-3, "hidden_sizes": (128, 128), "batch_size": 128}
CORL = Preset(config={"policy": "deterministic"}, normalize_observations=True)

PRESETS = {
    "pointmaze": Preset(config=SMALL, num_steps=10_000, normalize_observations=True),
    "gym": CORL,
    "antmaze": CORL,
    "adroit": CORL,
    "kitchen": CORL,
}

VARIANTS = {
    "quick": quick(
        {
            "policy": "gaussian",
            "learning_rate": 1e-3,
            "hidden_sizes": (256, 256),
            "batch_size": 256,
        }
    )
}
