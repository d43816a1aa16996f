"""Presets of EDAC.

  offrl train --algorithm=edac
      PointMaze umaze, 7 minutes on two busy CPU cores: score 22.1 (the data 7.0), and it believes
      in values 700 to 1,000 above the truth: ten critics do not constrain enough there
  offrl train --algorithm=edac --dataset=hopper.hdf5 --config.num_critics=50
      three million steps, for a GPU; not measured

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. PointMaze's
and quick are ours. The others are CORL's (configs/offline/edac at eeeeef2): Adroit's that of door,
hammer and relocate, `--recipe=corl_pen` that of pen-human; pen-cloned takes
--config.diversity_weight=10, maze2d E = 10 and η = 0.1. The authors (snu-mllab/EDAC at 198d570)
agree on Gym: E = 10, Hopper 50; η = 1, on HalfCheetah and Walker2d medium-expert 5
(`--recipe=medium_expert`). On Adroit they differ: `--recipe=authors_adroit` is theirs for
pen-human but for its standardised rewards; pen-cloned takes --config.diversity_weight=10 and a max
backup, theirs of the online critics, ours (--config.backup=min_max) of the targets.
"""

from offrl_jax.presets.common import SMALL_SOFT, pointmaze, quick
from offrl_jax.presets.preset import Preset

PEN = {"num_critics": 20, "diversity_weight": 1000.0}


def corl(num_critics: int, diversity_weight: float) -> Preset:
    config = {"num_critics": num_critics, "diversity_weight": diversity_weight}
    return Preset(config=config, num_steps=3_000_000)


PRESETS = {
    "pointmaze": pointmaze(SMALL_SOFT | {"num_critics": 10, "diversity_weight": 1.0}),
    "gym": corl(10, 1.0),
    "antmaze": corl(10, 1.0),
    "adroit": corl(50, 200.0),
}

RECIPES = {
    "quick": quick(SMALL_SOFT | {"num_critics": 10, "diversity_weight": 1.0}),
    "medium_expert": {"config": {"diversity_weight": 5.0}},
    "corl_pen": {"config": PEN},
    "authors_adroit": {
        "config": PEN | {"actor_learning_rate": 3e-5, "temperature_learning_rate": 3e-5},
        "num_steps": 200_000,
    },
}
