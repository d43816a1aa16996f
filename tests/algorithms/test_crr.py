"""CRR's two weights, its defaults, and the value of the action taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.algorithms.crr import CRRConfig, weight_of
from offrl_jax.networks.modules import MLP
from tests.algorithms.common.test_advantage_weighted import (
    BATCH,
    DATASET,
    S,
    numpy_advantage,
    numpy_log_prob,
    numpy_moments,
    started,
)
from tests.networks.test_modules import numpy_critics

CRR = ALGORITHMS["crr"]
KEY = jax.random.key(1)
CONFIG = CRRConfig(
    weight="binary",
    num_critics=3,
    num_baseline_samples=5,
    num_action_samples=6,
    actor_network=MLP((8,)),
    critic_network=MLP((8,)),
)
STATE = started(lambda: CRR.init(CONFIG, DATASET.spec, KEY))
ACTOR, CRITIC = STATE.actor.params, STATE.critic.params
update, act, value = (jax.jit(f) for f in (CRR.update, CRR.act, CRR.value))


def weights(advantage, **settings):
    return np.asarray(weight_of(CRRConfig(**settings), jnp.asarray(advantage, jnp.float32)))


def test_defaults_are_acmes():
    config = CRRConfig()
    assert config.advantage_temperature == 1.0 and config.max_weight == 20.0
    assert config.baseline == "mean" and config.num_baseline_samples == 4
    assert config.target_update_period == 100 and config.target_update_rate == 1.0
    assert config.num_critics == 1 and config.policy == "tanh_gaussian"
    assert config.actor_learning_rate == config.critic_learning_rate == 3e-4
    assert config.actor_network == config.critic_network == MLP((256, 256))


def test_exponential_weights_are_clipped():
    advantage = np.random.default_rng(0).normal(size=16)
    expected = np.exp(advantage / 0.2)
    assert 0 < (expected > 20).sum() < 16
    actual = weights(advantage, weight="exponential", advantage_temperature=0.2)
    np.testing.assert_allclose(actual, np.minimum(expected, 20), rtol=1e-5)


def test_binary_weights_ask_for_more_than_the_policys_own_value():
    assert weights([-3.0, -1e-6, 0.0, 1e-6, 3.0], weight="binary").tolist() == [0, 0, 0, 1, 1]


def test_targets_have_an_actor_of_their_own():
    assert jax.tree.structure(STATE.target_actor) == jax.tree.structure(ACTOR)


def test_a_step_clones_the_better_actions_only():
    _, metrics = update(CONFIG, STATE, BATCH, KEY)
    advantage_key = jax.random.split(KEY)[1]
    gain = numpy_advantage("tanh_gaussian", "mean", ACTOR, CRITIC, advantage_key, 5)
    log_prob = numpy_log_prob("tanh_gaussian", ACTOR, S, BATCH.action)
    assert float(metrics["actor/loss"]) == pytest.approx(-np.mean((gain > 0) * log_prob), rel=1e-4)
    assert 0 < (gain > 0).sum() < 30


def critic_that_knows_no_action():
    members = CRITIC["members"]
    kernel = jnp.zeros_like(members["head"]["kernel"])
    critic = {"members": members | {"head": members["head"] | {"kernel": kernel}}}
    return STATE.critic._replace(params=critic)


def worst_actions():
    action = np.random.default_rng(0).uniform(-1, 1, (30, 2000, 3))
    worst = numpy_critics(CRITIC, S, action).min(axis=0).argmin(axis=1)
    return jnp.asarray(action[np.arange(30), worst], jnp.float32)


@pytest.mark.parametrize("gain", ["zero", "negative"])
def test_where_no_action_is_better_a_binary_actor_stays_where_it_is(gain):
    state, batch = STATE, BATCH
    if gain == "zero":
        state = state._replace(critic=critic_that_knows_no_action())
    else:
        batch = batch._replace(action=worst_actions())
    after, metrics = update(CONFIG, state, batch, KEY)
    assert (metrics["actor/advantage"] < -0.1) == (gain == "negative")
    assert metrics["actor/loss"] == 0.0 and metrics["actor/weight"] == 0.0
    jax.tree.map(np.testing.assert_array_equal, after.actor.params, ACTOR)
    for moments in (after.actor.opt_state[0].mu, after.actor.opt_state[0].nu):
        assert all((x == 0).all() for x in jax.tree.leaves(moments))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after, metrics)))


@pytest.mark.parametrize("num_action_samples", [1, 6])
def test_the_value_is_of_the_action_taken(num_action_samples):
    config = dataclasses.replace(CONFIG, num_action_samples=num_action_samples)
    action = act(config, STATE, BATCH.observation, None)
    expected = numpy_critics(CRITIC, S, action).min(axis=0)
    np.testing.assert_allclose(value(config, STATE, BATCH.observation), expected, atol=1e-5)
    mode = np.tanh(numpy_moments("tanh_gaussian", ACTOR, S)[0])
    assert np.allclose(action, mode, atol=1e-5) == (num_action_samples == 1)
