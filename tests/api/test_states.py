"""States that `learn` cannot go on with are answered in one sentence."""

import jax
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.networks.modules import MLP
from offrl_jax.types import InputError
from tests.toy import toy_dataset

KEYS = jax.vmap(jax.random.key)(np.arange(2))
BC, CQL = ALGORITHMS["bc"], ALGORITHMS["cql"]
CONFIG = BC.Config(network=MLP((8,)), batch_size=8)


@pytest.fixture
def state():
    return init(BC, CONFIG, toy_dataset().spec, KEYS)


def test_a_donated_state_is_not_used_again(state):
    learn(BC, CONFIG, toy_dataset(), state, KEYS, num_steps=1)
    with pytest.raises(InputError, match=r"given to learn before.*the state that learn returned"):
        learn(BC, CONFIG, toy_dataset(), state, KEYS, num_steps=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"algorithm": CQL, "config": CQL.Config(batch_size=8)}, "not one of cql .* it has no"),
        ({"config": BC.Config(network=MLP((9,)), batch_size=8)}, "shape .* is needed"),
        ({"key": KEYS[:1]}, r"shape \(2.* where \(1"),
    ],
    ids=["another algorithm", "another config", "another key"],
)
def test_a_state_of_something_else_is_refused(state, arguments, words):
    given = {"algorithm": BC, "config": CONFIG, "dataset": toy_dataset(), "key": KEYS} | arguments
    with pytest.raises(InputError, match=words):
        learn(**given, state=state, num_steps=1)


def test_another_algorithms_config_is_refused(state):
    words = "config is a BCConfig, but cql takes a CQLConfig"
    with pytest.raises(InputError, match=words):
        init(CQL, CONFIG, toy_dataset().spec, KEYS)
    with pytest.raises(InputError, match=words):
        learn(CQL, CONFIG, toy_dataset(), state, KEYS, num_steps=1)


def test_what_is_no_state_is_refused():
    with pytest.raises(InputError, match=r"not one of bc .* it has no step"):
        learn(BC, CONFIG, toy_dataset(), None, KEYS, num_steps=1)


@pytest.mark.parametrize(
    ("algorithm", "key", "words"),
    [
        ("bc", KEYS, "algorithm='bc' is a str, not an Algorithm"),
        (BC, 0, "the key has type .*int.*; make it with jax.random.key"),
    ],
)
def test_names_and_numbers_are_no_algorithms_and_keys(algorithm, key, words):
    with pytest.raises(InputError, match=words):
        init(algorithm, CONFIG, toy_dataset().spec, key)
