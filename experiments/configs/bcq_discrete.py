"""Presets of discrete BCQ.

python -m experiments.train --algorithm=bcq_discrete --dataset=cartpole/mixed
"""

from experiments.configs.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE)}
RECIPES = {}
