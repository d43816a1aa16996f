"""No update computes what its objective does not need."""

import jax
import pytest

from tests.compiled import LARGEST, SMALLEST, ratio_to_minimum, sized_config


@pytest.fixture(scope="module")
def config(algorithm):
    return sized_config(algorithm)


def test_an_update_computes_little_more_than_its_objective_needs(algorithm, config):
    assert SMALLEST <= ratio_to_minimum(algorithm, config) <= LARGEST


def test_forward_passes_on_another_batch_would_be_noticed(algorithm, config):
    def with_duplicates(update):
        def twice(config, state, batch, key):
            reversed_batch = jax.tree.map(lambda x: x[::-1], batch)
            losses = update(config, state, reversed_batch, key)[1]  # its gradients are not used
            return update(config, state, batch, key), losses

        return twice

    assert ratio_to_minimum(algorithm, config, with_duplicates) > LARGEST
