"""AWAC's two weights against NumPy; the rest of its step is in `test_advantage_weighted.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.awac import AWACConfig, weight_of
from offrl_jax.networks.modules import MLP
from tests.algorithms.common.test_advantage_weighted import (
    BATCH,
    DATASET,
    S,
    numpy_advantage,
    numpy_log_prob,
    started,
)
from tests.arrays import bandit

AWAC = ALGORITHMS["awac"]
KEY = jax.random.key(1)
ADVANTAGE = np.random.default_rng(0).normal(0, 0.5, 16)


def weights(advantage, **settings):
    return np.asarray(weight_of(AWACConfig(**settings), jnp.asarray(advantage, jnp.float32)))


def test_exponential_weights_are_clipped():
    expected = np.exp(ADVANTAGE / 0.2)
    assert 0 < (expected > 7).sum() < 16
    actual = weights(ADVANTAGE, weight="exponential", advantage_temperature=0.2, max_weight=7.0)
    np.testing.assert_allclose(actual, np.minimum(expected, 7), rtol=1e-5)


def test_softmax_weights_are_the_exponential_ones_over_their_mean():
    exponential = np.exp(ADVANTAGE / 0.2)
    actual = weights(ADVANTAGE, weight="softmax", advantage_temperature=0.2, max_weight=1.0)
    np.testing.assert_allclose(actual, exponential / exponential.mean(), rtol=1e-4)
    assert actual.mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("weight", ["exponential", "softmax"])
def test_a_large_temperature_weighs_all_actions_by_one(weight):
    large = weights(ADVANTAGE, weight=weight, advantage_temperature=1e9)
    np.testing.assert_allclose(large, 1.0, atol=1e-6)


def test_only_softmax_weights_forget_a_constant_in_the_advantage():
    for weight, forgets in (("softmax", True), ("exponential", False)):
        shifted, plain = (weights(ADVANTAGE + c, weight=weight) for c in (3.0, 0.0))
        assert np.allclose(shifted, plain, rtol=1e-4) == forgets


def test_a_step_clones_with_these_weights():
    config = AWACConfig(
        weight="softmax",
        advantage_temperature=0.3,
        num_baseline_samples=5,
        actor_network=MLP((8,)),
        critic_network=MLP((8,)),
        num_critics=3,
    )
    state = started(lambda: AWAC.init(config, DATASET.spec, KEY))
    assert state.target_actor is None
    _, metrics = jax.jit(AWAC.update)(config, state, BATCH, KEY)
    advantage_key = jax.random.split(KEY)[1]
    actor, critic = state.actor.params, state.critic.params
    gain = numpy_advantage("tanh_mean", "mean", actor, critic, advantage_key, 5)
    expected = np.exp(gain / 0.3)
    expected = expected / expected.mean()
    log_prob = numpy_log_prob("tanh_mean", actor, S, BATCH.action)
    assert float(metrics["actor/loss"]) == pytest.approx(-np.mean(expected * log_prob), rel=1e-3)
    assert float(metrics["actor/weight"]) == pytest.approx(1, rel=1e-4)


def test_the_temperature_decides_between_the_datas_mean_and_its_better_action():
    """Actions ±½ with rewards 1 and 2: cloning acts at 0, as nobody in the data did."""
    actions = np.tile([[-0.5], [0.5]], (64, 1))
    dataset = bandit(actions, 1.5 + actions[:, 0])
    acted = {}
    for temperature in (0.1, 1e6):
        config = AWACConfig(
            advantage_temperature=temperature,
            actor_learning_rate=1e-2,
            critic_learning_rate=1e-2,
            actor_network=MLP((16,)),
            critic_network=MLP((16,)),
            batch_size=32,
        )
        state = init(AWAC, config, dataset.spec, KEY)
        state, _ = learn(AWAC, config, dataset, state, KEY, num_steps=300)
        acted[temperature] = float(jax.jit(AWAC.act)(config, state, jnp.zeros((1, 2)), None)[0, 0])
    assert abs(acted[1e6]) < 0.1 and acted[0.1] > 0.4
