"""Policies of tiny networks, written as a run writes them."""

import dataclasses

import jax

from offrl_jax import ALGORITHMS, init
from offrl_jax.runs.policy import save_policy

KEYS = jax.random.split(jax.random.key(0), 3)
SMALL = {  # by field, for whichever algorithm has it
    "hidden_sizes": (8,),
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
    "behavior_hidden_sizes": (8,),
}


def is_discrete(name):
    algorithm = ALGORITHMS[name]
    return algorithm.discrete(algorithm.Config())


def saved(tmp_path, dataset, name, settings=(), **options):
    """Writes policies of three seeds, small and otherwise as by default but for the settings."""
    algorithm = ALGORITHMS[name]
    names = {f.name for f in dataclasses.fields(algorithm.Config)}
    config = algorithm.Config(**{k: v for k, v in SMALL.items() if k in names} | dict(settings))
    state = init(algorithm, config, dataset.spec, KEYS)
    save_policy(
        *(tmp_path / "policy", algorithm, config, state, dataset.spec, dataset.preprocessing),
        **options,
    )
    return algorithm, config, state
