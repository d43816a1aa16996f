"""Without a preference among advantages, every exponential form is plain cloning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax import ALGORITHMS, advantage_weighted, init, learn
from offrl_jax.algorithms.awr import policy_of as awr_policy
from offrl_jax.data import sample
from offrl_jax.networks import tanh_mean_policy
from tests.arrays import random_dataset

KEY = jax.random.key(1)
DATASET = random_dataset()
SIZES = (8,)
SHARED = {"actor_hidden_sizes": SIZES, "critic_hidden_sizes": SIZES, "batch_size": 16}
RATE = 0.01
ACTOR = {"actor_learning_rate": RATE}
NO_PREFERENCE, PREFERENCE = {"advantage_temperature": 1e30}, {"advantage_temperature": 0.3}


def shared_policy(config, actor, observation):
    return tanh_mean_policy(config.actor_hidden_sizes, actor, observation)


# Algorithm, static settings, those without and with a preference, the policy.
FORMS = {
    "awr standardised": ("awr", ACTOR, NO_PREFERENCE, PREFERENCE, awr_policy),
    "awr": (
        "awr",
        {"standardize_advantage": False, **ACTOR},
        NO_PREFERENCE,
        PREFERENCE,
        awr_policy,
    ),
    "awac exponential": (
        "awac",
        {"weight": "exponential", **ACTOR},
        NO_PREFERENCE,
        PREFERENCE,
        advantage_weighted.policy_of,
    ),
    "awac softmax": (
        "awac",
        {"weight": "softmax", **ACTOR},
        NO_PREFERENCE,
        PREFERENCE,
        advantage_weighted.policy_of,
    ),
    "crr exponential": (
        "crr",
        {"weight": "exponential", **ACTOR},
        NO_PREFERENCE,
        PREFERENCE,
        advantage_weighted.policy_of,
    ),
    "marwil": (
        "marwil",
        {"learning_rate": RATE, "norm_start": 1.0},
        {"inverse_temperature": 0.0},
        {"inverse_temperature": 1.0},
        shared_policy,
    ),
    "iql": (
        "iql",
        {"num_decay_steps": 0, **ACTOR},
        {"inverse_temperature": 0.0},
        {"inverse_temperature": 3.0},
        shared_policy,
    ),
    "abm's prior": (
        "abm",
        {"prior_learning_rate": RATE},
        {"prior_weight": "uniform"},
        {"prior_weight": "advantage"},
        advantage_weighted.policy_of,
    ),
}


def cloned(policy_of, config, actor):
    """Three steps of Adam on −mean log π(a|s), on the learner's batches."""
    optimizer = optax.adam(RATE)

    def loss(actor, batch):
        return -jnp.mean(policy_of(config, actor, batch.observation).log_prob(batch.action))

    @jax.jit
    def step(actor, moments, batch):
        change, moments = optimizer.update(jax.grad(loss)(actor, batch), moments)
        return optax.apply_updates(actor, change), moments

    moments = optimizer.init(actor)
    for i in range(3):
        sample_key, _ = jax.random.split(jax.random.fold_in(KEY, i))
        actor, moments = step(actor, moments, sample(DATASET, sample_key, config.batch_size))
    return actor


@pytest.mark.parametrize("form", FORMS)
def test_without_a_preference_the_policy_is_plain_cloning(form):
    name, static, without, preferring, policy_of = FORMS[form]
    algorithm = ALGORITHMS[name]
    fitted = lambda state: state.prior if name == "abm" else state.actor  # noqa: E731
    after = {}
    for preference, settings in ((False, without), (True, preferring)):
        config = algorithm.Config(**SHARED, **static, **settings)
        state = init(algorithm, config, DATASET.spec, KEY)
        expected = cloned(policy_of, config, jax.tree.map(jnp.copy, fitted(state)))
        state, _ = learn(algorithm, config, DATASET, state, KEY, num_steps=3)
        after[preference] = fitted(state)
    assert_close(after[False], expected)
    with pytest.raises(AssertionError):
        assert_close(after[True], expected)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )
