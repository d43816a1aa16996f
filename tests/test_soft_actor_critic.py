"""The shared losses against their formulas, signs included."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import soft_actor_critic as sac
from offrl_jax.losses.td import td_target
from tests.arrays import random_dataset

DATASET = random_dataset()
CONFIG = sac.SoftActorCriticConfig(
    num_critics=3, actor_hidden_sizes=(8,), critic_hidden_sizes=(8,), initial_temperature=0.3
)
KEY = jax.random.key(1)


@pytest.fixture
def state():
    return sac.init(CONFIG, DATASET.spec, jax.random.key(0))


@pytest.fixture
def batch():
    return jax.tree.map(lambda x: x[:7], DATASET.transitions)


def test_actor_loss_is_entropy_temperature_times_log_prob_minus_the_least_q(state, batch):
    loss, (policy, log_prob) = sac.actor_loss(state.actor, state, batch, KEY, CONFIG)
    action, expected_log_prob = policy.sample_and_log_prob(KEY)
    q = np.asarray(sac.q_values(CONFIG, state.critic, batch.observation, action))
    assert q.shape == (3, 7)
    expected = np.mean(0.3 * np.asarray(expected_log_prob) - q.min(0))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(log_prob, expected_log_prob)


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_next_value_is_the_least_target_q_minus_entropy_if_asked(state, batch, backup_entropy):
    config = dataclasses.replace(CONFIG, backup_entropy=backup_entropy)
    state = state._replace(target_critic=jax.tree.map(lambda x: 2 * x, state.critic))
    action, log_prob = jnp.full((7, 3), 0.2), jnp.arange(7.0)
    value = sac.next_state_value(config, state, batch, action, log_prob)
    q = sac.q_values(config, state.target_critic, batch.next_observation, action)
    expected = np.asarray(q).min(0) - (0.3 * np.arange(7.0) if backup_entropy else 0.0)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("log_prob", "rises"), [(5.0, True), (-5.0, False)])
def test_temperature_rises_while_the_entropy_is_below_its_target(log_prob, rises):
    """Entropy −log π against the target −2: log π = 5 is too little entropy, −5 too much."""
    loss, gradient = jax.value_and_grad(sac.temperature_loss)(
        jnp.float32(0.7), jnp.full(4, log_prob), -2.0
    )
    assert float(loss) == pytest.approx(-0.7 * (log_prob - 2.0))
    assert (-gradient > 0) == rises


def test_one_step_moves_the_critics_towards_the_target(state, batch):
    """Gradient of the sum over critics, taken at the shared target y = r + γ (1 − d) V̄(s′)."""
    seen = {}

    def critic_loss(critic, batch, target, policy, next_policy, key, config):
        next_key = jax.random.split(KEY, 3)[1]
        next_action, log_prob = next_policy.sample_and_log_prob(next_key)
        value = sac.next_state_value(config, state, batch, next_action, log_prob)
        expected = td_target(batch.reward, batch.terminal, value, config.discount)
        seen["difference"] = target - expected
        return jnp.sum(sac.q_values(config, critic, batch.observation, batch.action)), {}

    after, _ = sac.update(CONFIG, state, batch, KEY, critic_loss)
    np.testing.assert_allclose(seen["difference"], 0.0, atol=1e-6)
    assert after.step == 1
    rate = CONFIG.target_update_rate
    jax.tree.map(
        lambda target, old, new: np.testing.assert_allclose(
            target, (1 - rate) * old + rate * new, atol=1e-6
        ),
        after.target_critic,
        state.target_critic,
        after.critic,
    )
