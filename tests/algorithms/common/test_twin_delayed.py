"""What TD3+BC and ReBRAC share, against NumPy: the target, one step of each network, acting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax.algorithms.common import twin_delayed
from offrl_jax.algorithms.common.twin_delayed import TwinDelayedConfig
from offrl_jax.networks.modules import critic_values, deterministic_policy
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_critics, numpy_policy

DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[15:45], DATASET.transitions)  # a time-out and a true end
KEY = jax.random.key(1)
SIZES = (8,)
CONFIG = TwinDelayedConfig(
    discount=0.9,
    target_update_rate=0.1,
    actor_learning_rate=1e-3,
    critic_learning_rate=2e-3,
    target_noise=0.5,
    target_noise_clip=0.4,
    num_critics=3,
    actor_hidden_sizes=SIZES,
    critic_hidden_sizes=SIZES,
)


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(lambda: twin_delayed.init(CONFIG, DATASET.spec, KEY))()


@pytest.fixture(scope="module")
def state(fresh):
    """Four different networks, the target actor's actions near the bounds at many states."""
    networks = ("actor", "target_actor", "critic", "target_critic")
    return fresh._replace(
        **{name: filled(getattr(fresh, name), seed) for seed, name in enumerate(networks)}
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
    q = numpy_critics(state.critic, BATCH.observation, BATCH.action)

    after, metrics = jax.jit(twin_delayed.critic_step)(CONFIG, state, BATCH, KEY)
    expected = sum(np.mean((q[k] - target) ** 2) for k in range(3))
    assert float(metrics["critic/loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["critic/q"]) == pytest.approx(q.mean(), rel=1e-4)

    def objective(critic):
        q = critic_values(SIZES, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - jnp.asarray(target, jnp.float32)) ** 2) for k in range(3))

    critic, optimizer = adam(objective, state.critic, state.critic_optimizer, 2e-3)
    assert_close((after.critic, after.critic_optimizer), (critic, optimizer))
    assert after.step == state.step + 1
    unmoved = {"step": after.step, "critic": critic, "critic_optimizer": optimizer}
    assert_equal(after._replace(**unmoved), state._replace(**unmoved))


def test_the_actor_steps_and_both_targets_follow_the_networks_and_nothing_else_moves(state):
    def loss(actor, critic, batch, config):
        action = deterministic_policy(SIZES, actor, batch.observation)
        q = critic_values(SIZES, critic, batch.observation, action)
        return -jnp.mean(q[1]), {"actor/q": jnp.mean(q)}

    after, metrics = jax.jit(twin_delayed.actor_step, static_argnums=3)(CONFIG, state, BATCH, loss)
    assert list(metrics) == ["actor/q"]
    actor, optimizer = adam(
        lambda actor: loss(actor, state.critic, BATCH, CONFIG)[0],
        state.actor,
        state.actor_optimizer,
        1e-3,
    )
    averaged = [
        jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, *pair)
        for pair in ((state.target_actor, actor), (state.target_critic, state.critic))
    ]
    assert_close(
        after,
        state._replace(
            actor=actor,
            actor_optimizer=optimizer,
            target_actor=averaged[0],
            target_critic=averaged[1],
        ),
    )
    assert_equal((after.critic, after.critic_optimizer), (state.critic, state.critic_optimizer))


def adam(objective, params, optimizer, rate):
    """The moments are compared too: a first step of Adam's alone shows only the gradient's sign."""
    step, optimizer = optax.adam(rate).update(jax.jit(jax.grad(objective))(params), optimizer)
    return optax.apply_updates(params, step), optimizer


def test_training_starts_with_targets_equal_to_their_networks_and_critics_apart(fresh):
    assert_equal((fresh.target_actor, fresh.target_critic), (fresh.actor, fresh.critic))
    q = numpy_critics(fresh.critic, BATCH.observation, BATCH.action)
    assert np.abs(q[0] - q[1]).min() > 0 and np.abs(q[1] - q[2]).min() > 0


def test_acting_is_the_actor_and_its_value_the_least_critic(state):
    action = numpy_policy(state.actor, BATCH.observation)
    for key in (None, KEY):
        acted = twin_delayed.act(CONFIG, state, BATCH.observation, key)
        np.testing.assert_allclose(acted, action, atol=1e-5)
    expected = numpy_critics(state.critic, BATCH.observation, action).min(axis=0)
    value = twin_delayed.value(CONFIG, state, BATCH.observation)
    np.testing.assert_allclose(value, expected, atol=1e-5)
