"""Presets of CQL.

  python -m experiments.train                            # PointMaze, minutes on two CPU cores
  python -m experiments.train --dataset=hopper.hdf5      # Gym, a million steps: for a GPU

PointMaze's is ours, small on purpose; measured results stand in BUILD_NOTES.md. The others are
CORL's (configs/offline/cql at eeeeef2), except that the Lagrange multiplier and the max backup of
its AntMaze setting are not there yet. For Kitchen nobody published verified settings: Adroit's.
"""

from experiments.configs.common import SMALL_SOFT, WIDE, pointmaze
from experiments.presets import Preset

ADROIT = Preset(
    config=WIDE | {"conservative_weight": 1.0, "actor_learning_rate": 1e-4},
    normalize_observations=True,
)

PRESETS = {
    "pointmaze": pointmaze(SMALL_SOFT | {"conservative_weight": 5.0, "num_sampled_actions": 4}),
    "gym": Preset(
        config=WIDE | {"conservative_weight": 10.0, "actor_learning_rate": 3e-5},
        normalize_observations=True,
    ),
    "antmaze": Preset(
        config=WIDE
        | {
            "critic_hidden_sizes": (256, 256, 256, 256, 256),
            "conservative_weight": 5.0,
            "actor_learning_rate": 1e-4,
        },
        reward_scale=10.0,
        reward_bias=-5.0,
    ),
    "adroit": ADROIT,
    "kitchen": ADROIT,
}
