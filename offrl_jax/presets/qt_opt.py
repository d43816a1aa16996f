"""Presets of QT-Opt, unconstrained: the baseline without an actor.

  offrl train --algorithm=qt_opt
      PointMaze umaze, 5 minutes on two busy CPU cores: score 22.2 (the data 7.0), and it believes
      in values above 1,800 where no return exceeds 500
  offrl train --algorithm=qt_opt --recipe=cross_entropy
      PointMaze umaze, 13 minutes on two busy CPU cores: 27.6, values bounded by 1 and still 0.5 to
      0.7 too high
  offrl train --algorithm=qt_opt --dataset=hopper.hdf5
      a million steps, for a GPU; not measured

Scores are means of three seeds; intervals and tuning are in BUILD_NOTES.md. PointMaze's is ours:
the paper's targets, which average over 10,000 steps and lag by 6,000, would hardly move within its
budget; these average over 50 and lag by 30. The recipe scales the
rewards to at most 1 − γ, so that a return is a share of the largest possible. Nobody published
settings for these domains: the others have the paper's averaging and our networks and Adam.
"""

from offrl_jax.presets.common import SMALL, pointmaze

CRITIC = {name: value for name, value in SMALL.items() if not name.startswith("actor")}

PRESETS = {"pointmaze": pointmaze(CRITIC | {"num_lag_steps": 30})}

RECIPES = {"cross_entropy": {"config": {"loss": "cross_entropy"}, "reward_scale": 0.01}}
