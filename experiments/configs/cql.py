"""Presets of CQL.

  python -m experiments.train                            # PointMaze, minutes on two CPU cores
  python -m experiments.train --dataset=hopper.hdf5      # Gym, a million steps: for a GPU

PointMaze's is ours, small on purpose; measured results stand in BUILD_NOTES.md. The others are
CORL's (configs/offline/cql at eeeeef2), except that the Lagrange multiplier and the max backup of
its AntMaze setting are not there yet. For Kitchen nobody published verified settings: Adroit's.
"""

from experiments.presets import Preset

WIDE = {"actor_hidden_sizes": (256, 256, 256), "critic_hidden_sizes": (256, 256, 256)}
SMALL = {
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 1e-3,
    "temperature_learning_rate": 1e-3,
    "initial_temperature": 0.1,
    "target_update_rate": 0.02,
    "actor_hidden_sizes": (128, 128),
    "critic_hidden_sizes": (128, 128),
    "batch_size": 128,
}
ADROIT = Preset(
    config=WIDE | {"conservative_weight": 1.0, "actor_learning_rate": 1e-4},
    normalize_observations=True,
)

PRESETS = {
    "pointmaze": Preset(
        config=SMALL | {"conservative_weight": 5.0, "num_sampled_actions": 4},
        num_steps=10_000,
        normalize_observations=True,
        reward_scale=5.0,
    ),
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
