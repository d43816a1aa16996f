"""Presets of DQN.

  offrl train --algorithm=dqn --dataset=cartpole/mixed
      1 minute on two CPU cores: score 15.7 (the data 40.7, bc 72.6)
  offrl train --algorithm=dqn --dataset=lunarlander/narrow
      values run away: -58.4 (the data 40.7)

Scores are means of three seeds; intervals are in BUILD_NOTES.md.
"""

from offrl_jax.presets.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE)}
RECIPES = {}
