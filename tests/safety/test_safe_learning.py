"""Buffer, advantages, the policy's step, λ, and the whole loop, tiny."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.config import validate
from offrl_jax.safety import learning, replay, training, worlds
from offrl_jax.safety.advantages import generalized_advantages
from offrl_jax.safety.replay import Experience
from offrl_jax.safety.settings import METHODS, SafetyConfig
from offrl_jax.safety.worlds import TASKS
from offrl_jax.types import InputError
from tests.few import few

TINY = {
    "hidden_sizes": (8,),
    "num_worlds": 4,
    "num_world_steps": 8,
    "num_random_transitions": 16,
    "num_shield_actions": 5,
    "num_critic_steps": 2,
    "num_pretraining_steps": 2,
    "num_value_steps": 2,
    "batch_size": 16,
    "replay_size": 100,
    "num_conjugate_steps": 4,
}
TASK = dataclasses.replace(TASKS["point"], max_episode_steps=6)
KEYS = jax.random.split(jax.random.key(0), 2)


def method(name, **changes):
    config = SafetyConfig(**TINY | METHODS[name][1] | changes)
    validate(config)
    return config


def test_the_buffer_keeps_the_newest():
    def rows(*values):
        x = jnp.array(values, jnp.float32)
        return Experience(x[:, None], x[:, None], x[:, None], x, x)

    buffer = replay.append(replay.empty(4, 1, 1), rows(1, 2, 3))
    drawn = replay.sample(buffer, jax.random.key(0), 200)
    assert set(np.asarray(drawn.cost)) == {1, 2, 3}
    buffer = replay.append(buffer, rows(4, 5))
    assert set(np.asarray(buffer.rows.cost)) == {2, 3, 4, 5}
    drawn = replay.sample(buffer, jax.random.key(0), 200)
    assert set(np.asarray(drawn.cost)) == {2, 3, 4, 5}
    np.testing.assert_array_equal(drawn.cost, drawn.action[:, 0])


def test_advantages_are_those_of_the_sum():
    """Two worlds: the first times out after two steps, the second dies after the first."""
    reward = jnp.array([[1.0, 1.0], [2.0, 0.5], [3.0, 0.5]])
    value = jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    next_value = jnp.array([[0.3, 9.0], [0.7, 0.6], [0.8, 0.9]])
    terminal = jnp.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    end = jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    g, w = 0.9, 0.5
    found = generalized_advantages(
        reward, value, next_value, terminal=terminal, end=end, discount=g, decay=w
    )
    delta = np.asarray(reward + g * (1 - terminal) * next_value - value)
    expected = np.array(
        [
            [delta[0, 0] + g * w * delta[1, 0], 1 - 0.2],
            [2 + g * 0.7 - 0.3, delta[1, 1] + g * w * delta[2, 1]],
            [delta[2, 0], delta[2, 1]],
        ]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def collected():
    """A config, a state and a rollout of its policy."""
    config = method("csc")

    def collect(key):
        session, _ = training._start(config, TASK, key)
        _, rollout = training._collect(config, TASK, learning.act, session, key)
        state = session.state
        state = state._replace(replay=replay.append(state.replay, rollout.experience()))
        return state, rollout

    return config, *jax.jit(collect)(jax.random.key(3))


def kl_after(config, state, rollout, advantage):
    new, metrics = jax.jit(learning.policy_step)(
        config, state, rollout, advantage, jax.random.key(3)
    )
    return new, {k: float(v) for k, v in metrics.items()}


def test_the_policys_step_stays_within_the_limit_and_improves(collected):
    config, state, rollout = collected
    advantage = jnp.asarray(np.random.default_rng(0).normal(size=32), jnp.float32)
    for limit in (1e-3, 1e-2, 0.1):
        new, found = kl_after(
            dataclasses.replace(config, kl_limit=limit), state, rollout, advantage
        )
        assert found["policy/accepted"] == 1
        assert 0.05 * limit < found["policy/kl"] <= limit
        old = learning.policy_of(config, state.actor.params, rollout.observation.reshape(32, -1))
        policy = learning.policy_of(config, new.actor.params, rollout.observation.reshape(32, -1))
        action = rollout.action.reshape(32, -1)
        gain = (policy.log_prob(action) - old.log_prob(action)) * (advantage - advantage.mean())
        assert float(gain.mean()) > 0


def test_the_multiplier_rises_under_violation_and_falls_to_no_less_than_zero(collected):
    config, state, rollout = collected
    config = dataclasses.replace(config, multiplier_learning_rate=5.0)
    advantage = jnp.ones(32)
    for violation in (0.5, -0.05):
        broken = state._replace(accident_value=jnp.float32(config.accident_limit + violation))
        _, found = kl_after(config, broken, rollout, advantage)
        assert (found["policy/multiplier"] > 1) == (violation > 0)
    raised = partial(learning.raised_multiplier, config)
    assert float(raised(jnp.float32(1.0), jnp.float32(0.2))) == pytest.approx(2.0)
    assert float(raised(jnp.float32(0.5), jnp.float32(-0.2))) == 0


def test_a_step_that_would_bring_accidents_is_refused(collected):
    """Q_C falls where it likes; the limit is made so tight that only what lowers Q_C passes."""
    config, state, rollout = collected
    config = dataclasses.replace(config, accident_limit=0.0)
    state = state._replace(accident_value=jnp.float32(0.0), multiplier=jnp.float32(0.0))
    observation = rollout.observation.reshape(32, -1)
    policy = learning.policy_of(config, state.actor.params, observation)
    # What pays is what Q_C calls dangerous.
    action = rollout.action.reshape(32, -1)
    q = learning.accident_q(
        config, state.critic.network.params, observation, jnp.clip(action, -1, 1)
    )
    dangerous = q - learning._clipped_q(config, state, observation, policy.mode()[:, None])[:, 0]
    config = dataclasses.replace(config, clip_accidents=False, num_policy_actions=64)
    new, found = kl_after(config, state, rollout, dangerous)
    free = dataclasses.replace(config, accident_limit=1.0)
    _, unlimited = kl_after(free, state, rollout, dangerous)
    assert unlimited["policy/accepted"] == 1
    assert found["policy/accepted"] == 0 and found["policy/kl"] == pytest.approx(0, abs=1e-6)
    for a, b in zip(jax.tree.leaves(new.actor), jax.tree.leaves(state.actor), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_accident_value_is_that_of_first_states_or_of_episodes(collected):
    config, state, rollout = collected
    key = jax.random.key(4)
    by_episodes = dataclasses.replace(config, accident_estimate="episodes")
    cost = jnp.zeros_like(rollout.cost).at[2, 0].set(1.0)
    ended = rollout._replace(cost=cost, terminal=cost, truncation=cost[::-1])
    assert float(learning.accident_value(by_episodes, state, ended, key)) == pytest.approx(0.5)
    nothing = rollout._replace(
        cost=0 * cost, terminal=0 * cost, truncation=0 * cost, is_first=0 * cost
    )
    state = state._replace(accident_value=jnp.float32(0.123))
    for settings in (config, by_episodes):
        kept = learning.accident_value(settings, state, nothing, key)
        assert float(kept) == pytest.approx(0.123)
    first = rollout._replace(is_first=0 * cost + 1.0)
    many = dataclasses.replace(config, num_policy_actions=64, clip_accidents=False)
    observation = rollout.observation.reshape(32, -1)
    policy = learning.policy_of(config, state.actor.params, observation)
    q = learning._clipped_q(many, state, observation, policy.mode()[:, None])
    found = learning.accident_value(many, state, first, key)
    assert float(found) == pytest.approx(float(q.mean()), abs=0.03)


def test_collected_rows_are_one_chain_with_starts_where_episodes_ended(collected):
    _, _, rollout = collected
    going_on = np.asarray(rollout.end[:-1] == 0)
    np.testing.assert_allclose(
        rollout.observation[1:][going_on], rollout.next_observation[:-1][going_on], atol=1e-6
    )
    assert not np.allclose(
        rollout.observation[1:][~going_on], rollout.next_observation[:-1][~going_on]
    )
    np.testing.assert_array_equal(rollout.is_first[1:], rollout.end[:-1])
    assert (rollout.is_first[0] == 1).all()
    returns = np.where(rollout.is_first, 0, np.roll(rollout.episode_return, 1, 0)) + rollout.reward
    np.testing.assert_allclose(rollout.episode_return, returns, rtol=1e-5)
    assert rollout.truncation.sum() > 0  # after six steps


@pytest.fixture(scope="module")
def trained():
    """Two iterations of two seeds, at once."""
    config = method("csc")
    session, before = training.start(config, TASK, KEYS)
    return config, before, *training.train(config, TASK, session, KEYS, num_iterations=2)


def test_the_loop_runs_in_one_program_for_all_seeds(trained):
    config, before, session, metrics = trained
    assert before["episodes/accidents"].shape == (2,)
    np.testing.assert_array_equal(session.state.step, [2, 2])
    np.testing.assert_array_equal(session.state.replay.num_added, 16 + 2 * 32)
    for label, rows in metrics.items():
        assert rows.shape == (2, 2), label
        assert np.isfinite(rows).all(), label
    assert (metrics["policy/kl"] <= config.kl_limit * 1.001).all()
    for leaf in jax.tree.leaves(session.state.actor.params):
        assert not np.allclose(leaf[0], leaf[1])
    found = training.evaluate(config, TASK, session.state, KEYS, num_episodes=3)
    assert found["return"].shape == (2,)
    assert ((found["accidents"] + found["goals"]) <= 1).all()


def test_one_and_one_iterations_are_two(trained):
    config, _, whole, _ = trained
    parts, _ = training.start(config, TASK, KEYS)
    for _ in range(2):
        parts, _ = training.train(config, TASK, parts, KEYS, num_iterations=1)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_an_unconstrained_learner_has_neither_shield_nor_multiplier_nor_random_rows():
    config = method("reinforce")
    session, before = training.start(config, TASK, KEYS)
    assert (session.state.replay.num_added == 0).all() and (before["episodes/accidents"] == 0).all()
    session, metrics = training.train(config, TASK, session, KEYS, num_iterations=1)
    assert (metrics["policy/multiplier"] == 1).all() and (metrics["shield/refused"] == 0).all()
    assert (metrics["policy/kl"] > 0).all() and "critic/penalty" not in metrics


@pytest.mark.parametrize("name", few(list(METHODS), ["csc", "lagrangian"]))
def test_every_method_can_be_traced(name):
    config = method(name)
    jax.eval_shape(
        lambda keys: training.train.__wrapped__(
            config, TASK, training.start.__wrapped__(config, TASK, keys)[0], keys, num_iterations=1
        ),
        KEYS,
    )


def test_starts_and_actions_are_drawn_apart():
    """Of all uniform numbers in the first rows none is there twice."""
    config = method("csc", num_world_steps=4)
    session, _ = training.start(config, TASK, KEYS[:1])
    rows = jax.tree.map(lambda x: x[0, :16], session.state.replay.rows)
    actions = np.asarray(rows.action).ravel()
    places = np.asarray(rows.observation[:, :2]).ravel()
    assert len(np.unique(actions)) == actions.size
    assert not np.isin(np.round(np.abs(places), 6), np.round(np.abs(actions), 6)).any()


def test_iterations_and_evaluations_share_no_keys_with_the_start():
    phases = [training._key_of(phase, KEYS[0]) for phase in ("start", "train", "evaluate")]
    keys = [*phases, *(jax.random.fold_in(phases[1], i) for i in range(5))]
    keys += [*jax.random.split(phases[0], 5), *jax.random.split(phases[2])]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "changes",
    [{"accident_discount": 1.0}, {"num_policy_actions": 1}, {"backtracking": 1.0}],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_that_would_undo_the_method_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        training.start(SafetyConfig(**TINY | changes), TASK, KEYS)


def test_a_buffer_too_small_for_its_rows_is_said():
    with pytest.raises(InputError, match="replay_size=3 does not hold the 16 transitions"):
        training.start(method("csc", replay_size=3), TASK, KEYS)


def test_the_middle_of_a_trap_can_be_seen():
    centre = jnp.array(TASK.traps[0][:2])
    world = worlds.reset(TASK, KEYS[0])
    world = world._replace(pose=world.pose.at[:2].set(centre))
    assert np.isfinite(worlds.observe(TASK, world)).all()
