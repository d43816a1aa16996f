"""The contract of DESIGN: every registered algorithm passes the same tests, none by its name.

By default those that compile run for one algorithm of each structural kind, with `-m ""` for all.
"""

import dataclasses

import jax
import pytest

from offrl_jax import ALGORITHMS
from tests.arrays import random_dataset
from tests.few import STRUCTURES, few
from tests.traces import with_counted_traces


def small_config(algorithm, **choices):
    """Tiny networks; the fields are recognised by their names, not by the algorithm."""
    small = {
        "hidden_sizes": (16, 16),
        "actor_hidden_sizes": (16, 16),
        "critic_hidden_sizes": (16, 16),
        "behavior_hidden_sizes": (16, 16),
        "batch_size": 8,
        "num_sampled_actions": 2,
        "num_mmd_samples": 2,
        "num_target_actions": 3,
        "num_action_samples": 3,
        "num_baseline_samples": 3,
        "target_update_period": 1,
        "num_lag_steps": 1,
        "norm_update_rate": 0.1,
        "relabel_every": 1,
        "num_warmup_steps": 0,
        # Within the two steps of a test every phase is met and everything that can learn learns.
        "num_behavior_steps": 1,
        "temperature_learning_rate": 1e-3,
        "divergence_weight_learning_rate": 1e-3,
        "initial_temperature": 0.5,
    }
    names = {f.name for f in dataclasses.fields(algorithm.Config)}
    return algorithm.Config(**{k: v for k, v in small.items() if k in names} | choices)


def cases():
    """Every algorithm as it is, and those that learn discrete actions if told to once more so."""
    for algorithm in ALGORITHMS.values():
        yield algorithm.name, (algorithm, {})
        fields = {f.name: f.metadata["choices"] for f in dataclasses.fields(algorithm.Config)}
        if "categorical" in (fields.get("policy") or ()):
            yield f"{algorithm.name}-categorical", (algorithm, {"policy": "categorical"})


CASES = dict(cases())


@pytest.fixture(params=few(CASES, STRUCTURES), scope="session")
def case(request):
    algorithm, choices = request.param
    yield with_counted_traces(algorithm), choices
    jax.clear_caches()  # see tests/conftest.py


@pytest.fixture(scope="session")
def algorithm(case):
    return case[0]


@pytest.fixture(scope="session")
def config(case):
    algorithm, choices = case
    return small_config(algorithm, **choices)


@pytest.fixture(scope="session")
def dataset(algorithm, config):
    return random_dataset(discrete=algorithm.discrete(config))


@pytest.fixture
def key():
    return jax.random.key(7)
