"""What TD3+BC and ReBRAC share, against NumPy: the target, one step of each network, acting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax.algorithms.common import twin_delayed
from offrl_jax.algorithms.common.twin_delayed import TwinDelayedConfig
from offrl_jax.networks.heads import critic_values, deterministic_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_critics, numpy_policy

DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[15:45], DATASET.transitions)  # a time-out and a true end
KEY = jax.random.key(1)
NETWORK = MLP((8,))
CONFIG = TwinDelayedConfig(
    discount=0.9,
    target_update_rate=0.1,
    actor_learning_rate=1e-3,
    critic_learning_rate=2e-3,
    target_noise=0.5,
    target_noise_clip=0.4,
    num_critics=3,
    actor_network=NETWORK,
    critic_network=NETWORK,
)


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(lambda: twin_delayed.init(CONFIG, DATASET.spec, KEY))()


@pytest.fixture(scope="module")
def state(fresh):
    """Four different networks, the target actor's actions near the bounds at many states."""
    return fresh._replace(
        actor=fresh.actor._replace(params=filled(fresh.actor.params, 0)),
        target_actor=filled(fresh.target_actor, 1),
        critic=fresh.critic._replace(params=filled(fresh.critic.params, 2)),
        target_critic=filled(fresh.target_critic, 3),
    )


def numpy_target_action(target_actor):
    """clip( π̄(s′) + clip(σ ε, −c, c), −1, 1 )."""
    noise = np.clip(0.5 * np.asarray(jax.random.normal(KEY, BATCH.action.shape)), -0.4, 0.4)
    return np.clip(numpy_policy(target_actor, BATCH.next_observation) + noise, -1, 1)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), actual, expected
    )


def test_target_action_is_the_target_actors_with_clipped_noise_within_bounds(state):
    action = np.asarray(twin_delayed.smoothed_target_action(CONFIG, state, BATCH, KEY))
    np.testing.assert_allclose(action, numpy_target_action(state.target_actor), atol=1e-5)
    moved = np.abs(action - numpy_policy(state.target_actor, BATCH.next_observation))
    # Both clips are met: of N(0, 0.5²) 42% are beyond 0.4.
    assert moved.max() <= 0.4 + 1e-6 and (moved > 0.4 - 1e-6).mean() > 0.1
    assert np.abs(action).max() == 1.0


def test_critics_step_towards_the_least_target_value_where_the_episode_goes_on(state):
    terminal = np.asarray(BATCH.terminal)
    assert 0 < terminal.sum() < len(terminal)
    next_action = numpy_target_action(state.target_actor)
    next_q = numpy_critics(state.target_critic, BATCH.next_observation, next_action).min(axis=0)
    target = np.asarray(BATCH.reward) + 0.9 * np.where(terminal, 0.0, next_q)
    q = numpy_critics(state.critic.params, BATCH.observation, BATCH.action)

    after, metrics = jax.jit(twin_delayed.critic_step)(CONFIG, state, BATCH, KEY)
    expected = sum(np.mean((q[k] - target) ** 2) for k in range(3))
    assert float(metrics["critic/loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["critic/q"]) == pytest.approx(q.mean(), rel=1e-4)

    def objective(critic):
        q = critic_values(NETWORK, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - jnp.asarray(target, jnp.float32)) ** 2) for k in range(3))

    critic = adam(objective, state.critic, 2e-3)
    assert_close(after.critic, critic)
    assert after.step == state.step + 1
    moved = {"step": after.step, "critic": critic}
    assert_equal(after._replace(**moved), state._replace(**moved))


def test_the_actor_steps_and_both_targets_follow_the_networks_and_nothing_else_moves(state):
    def loss(config, actor, critic, batch):
        action = deterministic_policy(NETWORK, actor, batch.observation)
        q = critic_values(NETWORK, critic, batch.observation, action)
        return -jnp.mean(q[1]), {"actor/q": jnp.mean(q)}

    after, metrics = jax.jit(twin_delayed.actor_step, static_argnums=3)(CONFIG, state, BATCH, loss)
    assert list(metrics) == ["actor/q"]
    actor = adam(
        lambda actor: loss(CONFIG, actor, state.critic.params, BATCH)[0], state.actor, 1e-3
    )
    target_actor, target_critic = (
        jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, *pair)
        for pair in ((state.target_actor, actor.params), (state.target_critic, state.critic.params))
    )
    assert_close(
        after,
        state._replace(actor=actor, target_actor=target_actor, target_critic=target_critic),
    )
    assert_equal(after.critic, state.critic)


def adam(objective, trainable, rate):
    """The moments are compared too: a first step of Adam's alone shows only the gradient's sign."""
    gradient = jax.jit(jax.grad(objective))(trainable.params)
    change, moments = optax.adam(rate).update(gradient, trainable.opt_state)
    return Trainable(optax.apply_updates(trainable.params, change), moments)


def test_training_starts_with_targets_equal_to_their_networks_and_critics_apart(fresh):
    targets = fresh.target_actor, fresh.target_critic
    assert_equal(targets, (fresh.actor.params, fresh.critic.params))
    q = numpy_critics(fresh.critic.params, BATCH.observation, BATCH.action)
    assert np.abs(q[0] - q[1]).min() > 0 and np.abs(q[1] - q[2]).min() > 0


def test_acting_is_the_actor_and_its_value_the_least_critic(state):
    action = numpy_policy(state.actor.params, BATCH.observation)
    for key in (None, KEY):
        acted = twin_delayed.act(CONFIG, state, BATCH.observation, key)
        np.testing.assert_allclose(acted, action, atol=1e-5)
    expected = numpy_critics(state.critic.params, BATCH.observation, action).min(axis=0)
    value = twin_delayed.value(CONFIG, state, BATCH.observation)
    np.testing.assert_allclose(value, expected, atol=1e-5)
