"""`algorithm._replace(update=mine)` trains `mine`, also where training has phases."""

import dataclasses

import jax
import pytest

from offrl_jax import ALGORITHMS, InputError, init, learn
from offrl_jax.algorithms.base import Phase, phases_of
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset

TD3_BC = ALGORITHMS["td3_bc"]


def configs(algorithm):
    """The default, and with and without phases before the last."""
    yield algorithm.Config()
    if "num_behavior_steps" in {field.name for field in dataclasses.fields(algorithm.Config)}:
        yield from (algorithm.Config(num_behavior_steps=n) for n in (0, 3))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_last_phase_takes_a_replaced_update(name):
    def mine(config, state, batch, key):
        raise NotImplementedError

    replaced = ALGORITHMS[name]._replace(update=mine)
    for config in configs(replaced):
        ours, theirs = (phases_of(a, config) for a in (replaced, ALGORITHMS[name]))
        assert mine in ours[-1].updates
        assert len(ours) == len(theirs) and ALGORITHMS[name].update not in ours[-1].updates


def test_a_replaced_update_is_what_is_traced():
    traces = []

    def mine(config, state, batch, key):
        traces.append(1)
        state, metrics = TD3_BC.update(config, state, batch, key)
        return state, {"mine/loss": metrics["actor/loss"]}

    config = TD3_BC.Config(actor_network=MLP((8,)), critic_network=MLP((8,)), batch_size=4)
    dataset, key = random_dataset(), jax.random.key(0)
    state = init(TD3_BC, config, dataset.spec, key)
    _, metrics = learn(
        TD3_BC._replace(update=mine), config, dataset, state, key, num_steps=config.policy_delay
    )
    assert traces and "mine/loss" in metrics and "actor/loss" not in metrics


def test_phases_that_ignore_the_update_are_refused():
    stubborn = TD3_BC._replace(phases=lambda config, update: (Phase((print,)),))
    with pytest.raises(InputError, match="no phase of td3_bc takes its update"):
        phases_of(stubborn, TD3_BC.Config())
