"""Presets of discrete CQL.

python -m experiments.train --algorithm=cql_discrete --dataset=cartpole/mixed
"""

from experiments.configs.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE)}
RECIPES = {}
