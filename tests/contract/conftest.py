"""The contract of DESIGN: every registered algorithm passes the same tests, none by its name.

By default those that compile run for one algorithm of each structural kind, with `-m ""` for all.
"""

import dataclasses

import jax
import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.testing import counting_traces, random_dataset, small_config
from tests.few import STRUCTURES, few

# Within the two steps of a test every phase is met and everything that can learn learns.
SMALL = {
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
    "num_behavior_steps": 1,
    "temperature_learning_rate": 1e-3,
    "divergence_weight_learning_rate": 1e-3,
    "initial_temperature": 0.5,
}


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
    yield *counting_traces(algorithm), choices
    jax.clear_caches()  # see tests/conftest.py


@pytest.fixture(scope="session")
def algorithm(case):
    return case[0]


@pytest.fixture(scope="session")
def traces(case):
    """Every update as often as it was traced."""
    return case[1]


@pytest.fixture(scope="session")
def config(case):
    """Tiny networks; the fields are recognised by their names, not by the algorithm."""
    algorithm, _, choices = case
    names = {field.name for field in dataclasses.fields(algorithm.Config)}
    small = {name: value for name, value in SMALL.items() if name in names}
    return small_config(algorithm, **small | choices)


@pytest.fixture(scope="session")
def dataset(algorithm, config):
    return random_dataset(discrete=algorithm.discrete(config))


@pytest.fixture
def key():
    return jax.random.key(7)
