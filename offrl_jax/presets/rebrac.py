"""Presets of ReBRAC.

  offrl train --algorithm=rebrac
      PointMaze umaze, 1.5 minutes on two CPU cores: score 60.5 (the data 7.0)
  offrl train --algorithm=rebrac --dataset=hopper.hdf5 --recipe=quick
      7 minutes on two CPU cores: 78.5 on hopper-medium-expert rebuilt (the data 65.2)
  offrl train --algorithm=rebrac --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md.
The authors (configs/rebrac at 7f4df8a) tune both weights for each task, and no one pair serves a
domain: give --config.actor_bc_weight and --config.critic_bc_weight for yours. Theirs are .01 / .01
for hopper-medium, .1 / .01 for hopper-medium-expert, .001 / .01 for halfcheetah-medium, .05 / .1
for walker2d-medium, .003 / .002 for antmaze-umaze, .1 / .5 for pen-human. Those below: Gym
hopper-medium's, AntMaze large-play's, Adroit door-human's, PointMaze CORL's for maze2d; Kitchen,
for which there are none, Adroit's. quick is ours, with much more cloning.
"""

from offrl_jax.networks.modules import MLP
from offrl_jax.presets.common import QUICK, SMALL, pointmaze, quick
from offrl_jax.presets.preset import Preset

ADROIT = Preset(config={"actor_bc_weight": 0.1, "critic_bc_weight": 0.1})

PRESETS = {
    "pointmaze": pointmaze(
        SMALL
        | {
            "critic_network": MLP((128, 128), layer_norm=True),
            "actor_bc_weight": 0.003,
            "critic_bc_weight": 0.001,
        }
    ),
    "gym": Preset(
        config={
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 1e-3,
            "batch_size": 1024,
        }
    ),
    "antmaze": Preset(
        config={
            "discount": 0.999,
            "critic_learning_rate": 5e-5,
            "actor_bc_weight": 0.002,
            "critic_bc_weight": 0.001,
        },
        reward_scale=100.0,
    ),
    "adroit": ADROIT,
    "kitchen": ADROIT,
}

RECIPES = {
    "quick": quick(
        QUICK | {"critic_network": MLP((256, 256), layer_norm=True), "actor_bc_weight": 1.0}
    )
}
