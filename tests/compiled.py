"""Compiled updates of algorithms against the minimum of their objectives."""

import dataclasses

import jax

from experiments.benchmarks.minimum_operations import MINIMUM
from experiments.benchmarks.operations import matrix_operations
from offrl_jax.algorithms.base import phases_of
from offrl_jax.data import sample
from offrl_jax.networks.values import is_network
from tests.arrays import random_dataset

DATASETS = {d: random_dataset(observation_size=11, discrete=d) for d in (False, True)}
BATCH_SIZE = 32
HIDDEN_SIZES = {  # all different, so that no product is taken for another
    "network": (48, 40),
    "actor_network": (48, 40),
    "critic_network": (56, 44),
    "value_network": (60, 28),
    "behavior_network": (52, 36),
    "error_network": (56, 44, 44),
}
LARGEST = 1.10  # ratio
PRESENT = {  # at these sizes, above 1 where a gradient in the action is taken in [s, a]
    **{"sac": 1.0546, "bcq": 1.0079, "bear": 1.0038, "brac": 1.0487, "td3_bc": 1.0092},
    **{"rebrac": 1.0169, "awac": 1.0312, "crr": 1.0187, "cql": 1.0048, "edac": 1.0579},
    "bcq_discrete": 1.0083,  # the target has the imitation's heads too
}
MARGIN = 0.002  # less than one more pass of the actor takes in any algorithm
SMALLEST = 0.98  # below it more was counted than the objective needs


def sized_config(algorithm, **settings):
    networks = {
        field.name: field.default.copy(hidden_sizes=HIDDEN_SIZES[field.name])
        for field in dataclasses.fields(algorithm.Config)
        if is_network(field)
    }
    return algorithm.Config(**networks | {"batch_size": BATCH_SIZE} | settings)


def ratio_to_minimum(algorithm, config, changed=lambda update: update):
    """Operations of the last phase's updates, each `changed`, as a mean over their cycle."""
    key, dataset = jax.random.key(0), DATASETS[algorithm.discrete(config)]
    state = jax.eval_shape(lambda: algorithm.init(config, dataset.spec, key))
    batch = jax.eval_shape(lambda: sample(dataset, key, config.batch_size))

    def operations(update):
        step = jax.jit(changed(update)).lower(config, state, batch, key)
        return matrix_operations(step.compile())

    updates = phases_of(algorithm, config)[-1].updates
    each = {update: operations(update) for update in set(updates)}
    mean = sum(each[update] for update in updates) / len(updates)
    return mean / MINIMUM[algorithm.name](config, dataset.spec)
