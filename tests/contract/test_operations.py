"""No update computes what its objective does not need."""

import pytest

from experiments.benchmarks.minimum_operations import MINIMUM
from tests.compiled import LARGEST, MARGIN, PRESENT, SMALLEST, ratio_to_minimum, sized_config


@pytest.fixture(scope="module")
def config(case):
    algorithm, _, choices = case
    if algorithm.name not in MINIMUM:
        pytest.skip("its operations are not counted by hand")
    return sized_config(algorithm, **choices)


def present(algorithm):
    return PRESENT.get(algorithm.name, 1.0)


def test_an_update_computes_little_more_than_its_objective_needs(algorithm, config):
    assert present(algorithm) + MARGIN < LARGEST
    assert SMALLEST <= ratio_to_minimum(algorithm, config) <= present(algorithm) + MARGIN


def test_one_more_pass_of_the_actor_would_be_noticed(algorithm, config):
    def with_duplicate(update):
        def twice(config, state, batch, key):
            action = algorithm.act(config, state, batch.observation[::-1], None)
            return update(config, state, batch, key), action

        return twice

    ratio = ratio_to_minimum(algorithm, config, with_duplicate)
    assert ratio > present(algorithm) + MARGIN
