"""Presets of TD3+BC.

  python -m experiments.train --algorithm=td3_bc                                   # PointMaze
  python -m experiments.train --algorithm=td3_bc --dataset=hopper.hdf5 --variant=quick
  python -m experiments.train --algorithm=td3_bc --dataset=hopper.hdf5             # 1M steps: a GPU

PLACEHOLDER
"""

from experiments.configs.common import QUICK, SMALL, pointmaze, quick
from experiments.presets import Preset

CORL = Preset(normalize_observations=True)

PRESETS = {
    "pointmaze": pointmaze(SMALL),
    "gym": CORL,
    "antmaze": Preset(normalize_observations=True, reward_bias=-1.0),
    "adroit": CORL,
    "kitchen": CORL,
}

VARIANTS = {"quick": quick(QUICK | {"q_weight": 1.0})}
