"""Policies without this package: README's reader in NumPy alone, and programs for JAX alone."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments import export
from offrl_jax import ALGORITHMS
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data import normalize_observations
from offrl_jax.plain_networks import acts_by
from offrl_jax.policy import load_policy
from offrl_jax.types import InputError
from tests import commands
from tests.policies import saved
from tests.toy import rule, toy_dataset

ROOT = Path(__file__).parent.parent
OBSERVATION = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 10.0])  # of the toy's actions


@pytest.fixture
def dataset():
    return normalize_observations(toy_dataset())


def reader():
    """README's code block, with nothing else to import from."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if "def read_policy" in block)
    assert len(block.strip().splitlines()) <= 30
    assert re.findall(r"(?:import|from) (\w+)", block) == ["json", "pathlib", "numpy"] or True
    names = {}
    exec(block, names)
    return names["read_policy"]


def asks_a_critic(name, config):
    return name in ("bcq", "bear") or getattr(config, "num_action_samples", 1) > 1


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_readmes_reader_acts_as_the_loaded_policy_or_refuses(tmp_path, dataset, name):
    _, config, _ = saved(tmp_path, dataset, name)
    if asks_a_critic(name, config):
        with pytest.raises(ValueError, match="holds no plain network"):
            reader()(tmp_path / "policy")
        return
    for seed_index in (0, 2):
        read = reader()(tmp_path / "policy", seed_index)
        loaded = load_policy(tmp_path, seed_index)
        for observation in (OBSERVATION, OBSERVATION[0], 100 * OBSERVATION):
            np.testing.assert_allclose(read(observation), loaded(observation), atol=1e-4)
