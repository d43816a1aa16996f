"""Presets of discrete CQL.

  offrl train --algorithm=cql_discrete --dataset=cartpole/mixed
      1 minute on two CPU cores: score 93.8 (the data 40.7, bc 72.6)
  offrl train --algorithm=cql_discrete --dataset=lunarlander/mixed
      54.4 (the data 51.5, bc 46.5)

The weight goes with a tenth of the rewards.

Scores are means of three seeds; intervals are in BUILD_NOTES.md.
"""

from offrl_jax.presets.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE | {"conservative_weight": 0.1})}
RECIPES = {}
