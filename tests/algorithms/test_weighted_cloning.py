"""Without a preference among advantages, every exponential form is plain cloning."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax import ALGORITHMS, learn
from offrl_jax.data import sample
from offrl_jax.networks.distributions import Gaussian
from offrl_jax.networks.heads import deterministic_policy, gaussian_policy, tanh_mean_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import is_network
from tests.algorithms.common.test_advantage_weighted import started
from tests.arrays import random_dataset
from tests.few import few

KEY = jax.random.key(1)
DATASET = random_dataset()
NETWORK = MLP((8,))
RATE = 0.01
ACTOR = {"actor_learning_rate": RATE}


def fixed_std_policy(actor, observation):
    mean = deterministic_policy(NETWORK, actor, observation)
    return Gaussian(mean, jnp.full_like(mean, jnp.log(0.4)))


one_std_policy = partial(tanh_mean_policy, NETWORK)
squashed_policy = partial(gaussian_policy, NETWORK)
TEMPERATURE = {"advantage_temperature": 1e30}, {"advantage_temperature": 0.3}
INVERSE_TEMPERATURE = {"inverse_temperature": 0.0}, {"inverse_temperature": 3.0}
# Algorithm, its policy, settings, and those without and with a preference.
FORMS = {
    "awr standardised": ("awr", fixed_std_policy, ACTOR, TEMPERATURE),
    "awr": ("awr", fixed_std_policy, {"standardize_advantage": False, **ACTOR}, TEMPERATURE),
    "awac exponential": ("awac", one_std_policy, {"weight": "exponential", **ACTOR}, TEMPERATURE),
    "awac softmax": ("awac", one_std_policy, {"weight": "softmax", **ACTOR}, TEMPERATURE),
    "crr exponential": ("crr", squashed_policy, {"weight": "exponential", **ACTOR}, TEMPERATURE),
    "marwil": ("marwil", one_std_policy, {"learning_rate": RATE}, INVERSE_TEMPERATURE),
    "iql": ("iql", one_std_policy, {"num_decay_steps": 0, **ACTOR}, INVERSE_TEMPERATURE),
    "abm's prior": (
        "abm",
        squashed_policy,
        {"prior_weight": "uniform", "prior_learning_rate": RATE},
        ({},),
    ),
}


@pytest.fixture(scope="module")
def batches():
    """Those that the learner draws."""
    keys = [jax.random.split(jax.random.fold_in(KEY, step))[0] for step in range(3)]
    return [sample(DATASET, key, 16) for key in keys]


@partial(jax.jit, static_argnums=0)
def cloned(policy_of, actor, batches):
    """A step of Adam on −mean log π(a|s) with each batch."""

    def loss(actor, batch):
        return -jnp.mean(policy_of(actor, batch.observation).log_prob(batch.action))

    optimizer = optax.adam(RATE)
    moments = optimizer.init(actor)
    for batch in batches:
        change, moments = optimizer.update(jax.grad(loss)(actor, batch), moments)
        actor = optax.apply_updates(actor, change)
    return actor


@pytest.mark.parametrize("form", few(list(FORMS), ("awr", "iql")))
def test_without_a_preference_the_policy_is_plain_cloning(form, batches):
    name, policy_of, settings, preferences = FORMS[form]
    algorithm, after = ALGORITHMS[name], []
    networks = {f.name: NETWORK for f in dataclasses.fields(algorithm.Config) if is_network(f)}
    policy = "prior" if name == "abm" else "actor"
    for preference in preferences:
        config = algorithm.Config(batch_size=16, **networks, **settings, **preference)
        state = started(lambda config=config: algorithm.init(config, DATASET.spec, KEY))
        expected = cloned(policy_of, getattr(state, policy).params, batches)
        state, _ = learn(algorithm, config, DATASET, state, KEY, num_steps=3)
        after.append(getattr(state, policy).params)
    plain, *preferring = after
    assert_close(plain, expected)
    for other in preferring:
        with pytest.raises(AssertionError):
            assert_close(other, expected)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )
