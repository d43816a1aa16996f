"""Policies of tiny networks, written as a run writes them."""

import dataclasses

import jax

from offrl_jax import ALGORITHMS, init
from offrl_jax.networks.values import is_network
from offrl_jax.runs.policy import save_policy

KEYS = jax.random.split(jax.random.key(0), 3)


def is_discrete(name):
    algorithm = ALGORITHMS[name]
    return algorithm.discrete(algorithm.Config())


def saved(tmp_path, dataset, name, settings=(), **options):
    """Writes policies of three seeds, their networks a layer of 8 and all else as by default but
    for the settings."""
    algorithm = ALGORITHMS[name]
    small = {
        field.name: field.default.copy(hidden_sizes=(8,))
        for field in dataclasses.fields(algorithm.Config)
        if is_network(field)
    }
    config = algorithm.Config(**small | dict(settings))
    state = init(algorithm, config, dataset.spec, KEYS)
    save_policy(
        tmp_path / "policy",
        algorithm,
        config,
        state=state,
        spec=dataset.spec,
        preprocessing=dataset.preprocessing,
        **options,
    )
    return algorithm, config, state
