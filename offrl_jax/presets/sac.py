"""Presets of soft actor-critic without a constraint, the baseline that fails where data is narrow.

  offrl train --algorithm=sac
      PointMaze umaze, 1 minute on two CPU cores: score 22.1 (the data 7.0), and it
      believes in values above 2,000 where no return exceeds 500
  offrl train --algorithm=sac --recipe=discor
      PointMaze umaze, 3 minutes on two busy CPU cores: 22.1, values 1,100 to 1,700 too high
  offrl train --algorithm=sac --dataset=hopper.hdf5 --recipe=quick
      5 minutes on two CPU cores: 0.7 on hopper-medium-expert rebuilt (the data 65.2)

PointMaze's is CQL's without the penalty; measured results stand in BUILD_NOTES.md. The others are
SAC-N with CORL's settings (configs/offline/sac_n at eeeeef2); its E for Gym is HalfCheetah's, give
--config.num_critics=20 for Walker2d and 200 to 500 for Hopper.
"""

from offrl_jax.networks.modules import MLP
from offrl_jax.presets.common import MLP_256, SMALL_SOFT, WIDE, pointmaze, quick
from offrl_jax.presets.preset import Preset


def sac_n(num_critics: int) -> Preset:
    return Preset(
        config=WIDE | {"num_critics": num_critics, "error_network": MLP((256,) * 4)},
        num_steps=3_000_000,
    )


PRESETS = {
    "pointmaze": pointmaze(SMALL_SOFT | {"error_network": MLP((128,) * 3)}),
    "gym": sac_n(10),
    "antmaze": sac_n(25),
    "adroit": sac_n(100),
}

RECIPES = {
    "discor": {"config": {"td_weighting": "discor"}},
    "quick": quick(
        {
            "num_critics": 2,
            "actor_network": MLP_256,
            "critic_network": MLP_256,
            "error_network": MLP((256,) * 3),
        }
    ),
}
