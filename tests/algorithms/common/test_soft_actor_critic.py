"""The shared losses against their formulas, signs included."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax import init
from offrl_jax.algorithms.common import soft_actor_critic as sac
from offrl_jax.algorithms.cql import CQLConfig
from offrl_jax.algorithms.cql import cql as CQL
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset

DATASET = random_dataset()
CONFIG = sac.SoftActorCriticConfig(
    num_critics=3,
    actor_network=MLP((8,)),
    critic_network=MLP((8,)),
    initial_temperature=0.3,
)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda key: sac.init(CONFIG, DATASET.spec, key))(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(lambda x: x[:7], DATASET.transitions)


def test_actor_loss_is_entropy_temperature_times_log_prob_minus_the_least_q(state, batch):
    loss, (metrics, policy, log_prob) = sac.actor_loss(
        CONFIG, state.actor.params, state, batch, KEY
    )
    action, expected_log_prob = policy.sample_and_log_prob(KEY)
    q = np.asarray(sac.q_values(CONFIG, state.critic.params, batch.observation, action))
    assert q.shape == (3, 7)
    expected = np.mean(0.3 * np.asarray(expected_log_prob) - q.min(0))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert metrics["actor/loss"] == loss
    assert float(metrics["actor/entropy"]) == pytest.approx(-expected_log_prob.mean(), rel=1e-5)
    np.testing.assert_array_equal(log_prob, expected_log_prob)


NEXT = TanhGaussian(
    jax.random.normal(jax.random.key(2), (7, 3)), jax.random.uniform(jax.random.key(3), (7, 3)) - 1
)


@functools.partial(jax.jit, static_argnames="config")
def next_value(config, state, batch, key):
    return sac.next_state_value(config, state, batch, NEXT, key)


critics_of = jax.jit(functools.partial(sac.q_values, CONFIG))


def configured(backup):
    return dataclasses.replace(CONFIG, backup=backup, num_backup_actions=4)


@pytest.mark.parametrize("backup", sac.BACKUPS)
def test_next_value_by_loops(state, batch, backup):
    """Each backup from the target critics' values of the same actions, one state at a time."""
    config = configured(backup)
    state = state._replace(target_critic=jax.tree.map(lambda x: 2 * x, state.critic.params))
    single, log_prob = (np.asarray(x) for x in NEXT.sample_and_log_prob(KEY))
    several = np.asarray(NEXT.sample_and_log_prob(KEY, 4)[0])
    mode = np.tanh(np.asarray(NEXT.mean))

    def target_q(b, action):
        observation = batch.next_observation[b][None]
        q = critics_of(state.target_critic, observation, action[None])
        return [float(x) for x in np.asarray(q)[:, 0]]

    expected = []
    for b in range(7):
        q = [target_q(b, several[b, j]) for j in range(4)]  # [action][critic]
        expected.append(
            {
                "deterministic": min(target_q(b, single[b])),
                "entropy": min(target_q(b, single[b])) - 0.3 * log_prob[b],
                "mean_action": min(target_q(b, mode[b])),
                "max_min": max(min(q[j]) for j in range(4)),
                "min_max": min(max(q[j][k] for j in range(4)) for k in range(3)),
            }[backup]
        )
    value = next_value(config, state, batch, KEY)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_only_the_entropy_backup_knows_the_temperature_and_only_the_mode_needs_no_key(state, batch):
    temperature = state.temperature._replace(params=state.temperature.params + 1.0)
    warmer = state._replace(temperature=temperature)
    for backup in sac.BACKUPS:
        value = next_value(configured(backup), state, batch, KEY)
        other = next_value(configured(backup), warmer, batch, KEY)
        assert np.array_equal(value, other) == (backup != "entropy")
        other = next_value(configured(backup), state, batch, jax.random.key(5))
        assert np.array_equal(value, other) == (backup == "mean_action")


def test_the_greatest_minimum_is_below_the_least_maximum(state, batch, monkeypatch):
    """Two critics that rank two actions the other way round, 2 against 3 by hand; and noise."""

    def values(table):
        monkeypatch.setattr(sac, "q_values", lambda *_: table)  # [critic][state][action]
        return [
            np.asarray(sac.next_state_value(configured(backup), state, batch, NEXT, KEY))
            for backup in ("max_min", "min_max")
        ]

    by_hand = jnp.array([[1.0, 4.0, 0.0, 0.0], [3.0, 2.0, 1.0, 0.0]])[:, None]
    greatest_minimum, least_maximum = values(jnp.repeat(by_hand, 7, axis=1))
    assert (greatest_minimum == 2.0).all()
    assert (least_maximum == 3.0).all()
    greatest_minimum, least_maximum = values(jax.random.normal(KEY, (3, 7, 4)))
    assert (greatest_minimum <= least_maximum).all()
    assert (greatest_minimum < least_maximum).any()


@pytest.mark.parametrize(("log_prob", "rises"), [(5.0, True), (-5.0, False)])
def test_temperature_rises_while_the_entropy_is_below_its_target(log_prob, rises):
    """Entropy −log π against the target −2: log π = 5 is too little entropy, −5 too much."""
    config = dataclasses.replace(CONFIG, target_entropy_per_action=-1.0)
    loss, gradient = jax.value_and_grad(sac.temperature_loss, argnums=1)(
        config, jnp.float32(0.7), jnp.full(4, log_prob), 2
    )
    assert float(loss) == pytest.approx(-0.7 * (log_prob - 2.0))
    assert (-gradient > 0) == rises


def test_a_whole_step_of_cql_equals_one_written_out():
    """Every gradient from the equations, at the old parameters; then Adam; then the targets."""
    config = CQLConfig(
        num_critics=3,
        actor_network=MLP((8,)),
        critic_network=MLP((8,)),
        num_sampled_actions=2,
        backup="entropy",
        initial_temperature=0.3,
        target_update_rate=0.1,
    )
    state = init(CQL, config, DATASET.spec, jax.random.key(0))
    old = state.agent
    old = old._replace(target_critic=jax.tree.map(lambda x: 1.3 * x, old.critic.params))
    batch = jax.tree.map(lambda x: x[:9], DATASET.transitions)

    @jax.jit
    def written_out(old):
        s, s_next, action_size = batch.observation, batch.next_observation, 3
        actor_key, next_key, critic_key = jax.random.split(KEY, 3)
        own_key, following_key = jax.random.split(critic_key, 3)[1:]
        alpha = 0.3

        def q(critic, observation, action):
            return sac.q_values(config, critic, observation, action)

        def actor_objective(actor):
            action, log_prob = sac.policy_of(config, actor, s).sample_and_log_prob(actor_key)
            return jnp.mean(alpha * log_prob - q(old.critic.params, s, action).min(0))

        policy, next_policy = (sac.policy_of(config, old.actor.params, o) for o in (s, s_next))
        next_action, next_log_prob = next_policy.sample_and_log_prob(next_key)
        next_value = q(old.target_critic, s_next, next_action).min(0) - alpha * next_log_prob
        target = batch.reward + config.discount * (1 - batch.terminal) * next_value
        uniform = jax.random.uniform(
            jax.random.split(critic_key, 3)[0], (9, 2, action_size), minval=-1.0, maxval=1.0
        )
        own, own_log_prob = policy.sample_and_log_prob(own_key, 2)
        following, following_log_prob = next_policy.sample_and_log_prob(following_key, 2)

        def critic_objective(critic):
            weighted = [
                q(critic, s, uniform) - action_size * jnp.log(0.5),
                q(critic, s, own) - own_log_prob[None],
                q(critic, s, following) - following_log_prob[None],
            ]
            logsumexp = jnp.log(jnp.sum(jnp.exp(jnp.concatenate(weighted, -1)), -1))
            q_data = q(critic, s, batch.action)
            penalty = config.conservative_weight * (logsumexp - q_data)
            return jnp.sum(jnp.mean(jnp.square(q_data - target[None]) + penalty, axis=1))

        _, log_prob = policy.sample_and_log_prob(actor_key)
        gradients = {
            "actor": jax.grad(actor_objective)(old.actor.params),
            "critic": jax.grad(critic_objective)(old.critic.params),
            "temperature": -(jnp.mean(log_prob) - action_size),
        }
        stepped = {}
        for name, gradient in gradients.items():
            adam = optax.adam(getattr(config, f"{name}_learning_rate"))
            params, opt_state = getattr(old, name)
            step, _ = adam.update(gradient, opt_state)
            stepped[name] = optax.apply_updates(params, step)
        return stepped

    after, _ = jax.jit(CQL.update)(config, state._replace(agent=old), batch, KEY)
    new = after.agent
    for name, expected in written_out(old).items():
        assert_close(getattr(new, name).params, expected)
    averaged = jax.tree.map(lambda t, c: 0.9 * t + 0.1 * c, old.target_critic, new.critic.params)
    assert_close(new.target_critic, averaged)
    assert new.step == after.step == 1


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)
