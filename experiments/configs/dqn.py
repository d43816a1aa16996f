"""Presets of DQN.

python -m experiments.train --algorithm=dqn --dataset=cartpole/mixed
"""

from experiments.configs.common import DISCRETE, discrete

PRESETS = {"discrete": discrete(DISCRETE)}
RECIPES = {}
