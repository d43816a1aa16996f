"""Presets of discrete BCQ.

  offrl train --algorithm=bcq_discrete --dataset=cartpole/mixed
      1 minute on two CPU cores: score 75.8 (the data 40.7, bc 72.6)
  offrl train --algorithm=bcq_discrete --dataset=lunarlander/mixed
      57.5 (the data 51.5, bc 46.5)

Scores are means of three seeds; intervals are in BUILD_NOTES.md.
"""

from offrl_jax.presets.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE)}
RECIPES = {}
