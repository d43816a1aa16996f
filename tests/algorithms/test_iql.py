"""IQL and its peers against NumPy: a whole step in order, losses, weights, dropout, decay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.iql import IQLConfig, actor_loss, value_loss
from offrl_jax.data import sample
from offrl_jax.networks.heads import critic_values, state_value, tanh_mean_policy
from offrl_jax.networks.modules import MLP
from tests.algorithms.common.test_advantage_weighted import (
    BATCH,
    DATASET,
    NEXT_S,
    S,
    adam,
    assert_close,
    assert_equal,
    numpy_log_prob,
    numpy_moments,
    started,
)
from tests.arrays import bandit, chain, random_dataset
from tests.networks.test_modules import numpy_critics, numpy_mlp

IQL = ALGORITHMS["iql"]
KEY = jax.random.key(1)
NETWORK, DROPOUT = MLP((8, 8)), MLP((8, 8), dropout=0.5)
CONFIG = IQLConfig(
    discount=0.9,
    expectile=0.8,
    inverse_temperature=2.0,
    max_weight=2.0,
    target_update_rate=0.1,
    # Large, so that parameters before a step and after it are told apart.
    actor_learning_rate=0.1,
    critic_learning_rate=0.05,
    num_decay_steps=4,
    num_critics=3,
    actor_network=NETWORK,
    value_network=NETWORK,
    critic_network=NETWORK,
)
DROPPING = dataclasses.replace(
    CONFIG, actor_network=DROPOUT, value_network=DROPOUT, num_decay_steps=0
)
STATE = started(lambda: IQL.init(CONFIG, DATASET.spec, KEY))
STATE = STATE._replace(
    step=jnp.int32(1),
    target_critic=jax.tree.map(lambda x: x + 0.15, STATE.target_critic),  # values about V's
)
Q = numpy_critics(STATE.target_critic, S, BATCH.action).min(axis=0)
update = jax.jit(IQL.update)


def numpy_value(params, observation):
    return numpy_mlp(params, observation)[:, 0]


def moved(after, before):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), after, before)))


def float32(x):
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("config", [CONFIG, DROPPING], ids=["plain", "dropout"])
def test_a_whole_step_equals_one_written_out(config):
    """Value; the actor, with the new value and the old target critics; critics, with the new value;
    target critics. Where units drop out, they do only in the network that is fitted."""
    after, metrics = update(config, STATE, BATCH, KEY)
    value_key, actor_key = jax.random.split(KEY)

    def value_objective(value):
        u = float32(Q) - state_value(config.value_network, value, BATCH.observation, key=value_key)
        return jnp.mean(jnp.where(u < 0, 0.2, 0.8) * u**2)

    value = adam(value_objective, STATE.value, 0.05)

    advantage = Q - numpy_value(value.params, S)
    weight = np.minimum(np.exp(2 * advantage), 2.0)
    assert 0 < (weight == 2).sum() < 30
    assert float(metrics["actor/advantage"]) == pytest.approx(advantage.mean(), abs=1e-4)
    assert float(metrics["actor/weight"]) == pytest.approx(weight.mean(), rel=1e-3)

    def actor_objective(actor):
        policy = tanh_mean_policy(config.actor_network, actor, BATCH.observation, key=actor_key)
        return -jnp.mean(float32(weight) * policy.log_prob(BATCH.action))

    # After one step of four; without a number of them the rate stays.
    rate = 0.1 * 0.5 * (1 + np.cos(np.pi / 4)) if config.num_decay_steps else 0.1
    actor = adam(actor_objective, STATE.actor, rate)

    assert 0 < BATCH.terminal.sum() < 30
    target = BATCH.reward + 0.9 * np.where(BATCH.terminal, 0.0, numpy_value(value.params, NEXT_S))
    q = numpy_critics(STATE.critic.params, S, BATCH.action)
    loss = sum(np.mean((q[k] - np.asarray(target)) ** 2) for k in range(3))
    assert float(metrics["critic/loss"]) == pytest.approx(loss, rel=1e-4)

    def critic_objective(critic):
        q = critic_values(NETWORK, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - float32(target)) ** 2) for k in range(3))

    critic = adam(critic_objective, STATE.critic, 0.05)
    assert_close(
        after,
        type(STATE)(
            step=jnp.int32(2),
            actor=actor,
            value=value,
            critic=critic,
            target_critic=jax.tree.map(
                lambda t, o: 0.9 * t + 0.1 * o, STATE.target_critic, critic.params
            ),
        ),
    )


def numpy_value_loss(name, q, v):
    """τ = 0.8, temperature 0.7, clip 1.3; the two exponential losses are scaled by e^{−max z}."""
    if name == "expectile":
        return np.mean(np.where(q < v, 0.2, 0.8) * (q - v) ** 2)
    if name == "sparse":
        t = 1 + (q - v) / 1.4
        return np.mean(np.where(t > 0, t**2, 0.0) + v / 0.7)
    z = np.minimum((q - v) / 0.7, 1.3)
    scale = np.exp(-max(z.max(), -1.0))
    if name == "gumbel":
        return np.mean(np.exp(z) - z - 1) * scale
    return np.mean(np.exp(z) + v / 0.7) * scale


@pytest.mark.parametrize("name", ["expectile", "gumbel", "sparse", "exponential"])
def test_the_value_is_fitted_by_the_loss_asked_for(name):
    config = dataclasses.replace(CONFIG, value_loss=name, value_temperature=0.7, max_exponent=1.3)
    v = numpy_value(STATE.value.params, S)
    q = v + np.linspace(-3, 3, 30)
    loss, metrics = jax.jit(value_loss)(config, STATE.value.params, BATCH, float32(q), KEY)
    assert float(loss) == pytest.approx(numpy_value_loss(name, q, v), rel=1e-4)
    assert float(metrics["value/v"]) == pytest.approx(v.mean(), abs=1e-5)


@pytest.mark.parametrize("weight", ["exponential", "linear"])
def test_the_actor_clones_with_the_weight_asked_for(weight):
    """e^{β A}, or max(A, 0), at most 100 by default."""
    config = dataclasses.replace(CONFIG, policy_weight=weight, max_weight=IQLConfig().max_weight)
    advantage = np.append(np.linspace(-3, 6, 29), 130.0)
    expected = {
        "exponential": np.minimum(np.exp(2 * advantage), 100),
        "linear": np.clip(advantage, 0, 100),
    }[weight]
    loss, metrics = actor_loss(config, STATE.actor.params, BATCH, float32(advantage), KEY)
    log_prob = numpy_log_prob("tanh_mean", STATE.actor.params, S, BATCH.action)
    assert float(loss) == pytest.approx(-np.mean(expected * log_prob), rel=1e-4)
    assert float(metrics["actor/weight"]) == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize(("step", "moves"), [(3, True), (4, False), (9, False)])
def test_the_actor_stops_when_its_rate_has_decayed(step, moves):
    state = STATE._replace(step=jnp.int32(step))
    after, _ = update(CONFIG, state, BATCH, KEY)
    assert moved(after.actor.params, state.actor.params) == moves
    assert moved(after.value.params, state.value.params)
    assert moved(after.critic.params, state.critic.params)
    assert moved(after.target_critic, state.target_critic)


def test_the_key_matters_only_where_units_drop_out_and_never_in_acting():
    keys = jax.random.split(KEY)
    plain = [update(CONFIG, STATE, BATCH, key)[0] for key in keys]
    assert_equal(*plain)
    dropping = [update(DROPPING, STATE, BATCH, key)[0] for key in keys]
    assert moved(dropping[0].actor.params, dropping[1].actor.params)
    assert moved(dropping[0].value.params, dropping[1].value.params)

    mean, std = numpy_moments("tanh_mean", STATE.actor.params, S)
    act, value = jax.jit(IQL.act), jax.jit(IQL.value)
    np.testing.assert_allclose(act(DROPPING, STATE, BATCH.observation, None), mean, atol=1e-5)
    noise = np.asarray(jax.random.normal(KEY, (30, 1, 3)))[:, 0]
    drawn = np.clip(mean + std * noise, -1, 1)
    np.testing.assert_allclose(act(DROPPING, STATE, BATCH.observation, KEY), drawn, atol=1e-5)
    expected = numpy_critics(STATE.critic.params, S, mean).min(axis=0)
    np.testing.assert_allclose(value(DROPPING, STATE, BATCH.observation), expected, atol=1e-4)


SMALL = dataclasses.replace(
    CONFIG,
    num_decay_steps=0,
    actor_learning_rate=1e-2,
    critic_learning_rate=1e-2,
    num_critics=1,
    actor_network=MLP((16,)),
    value_network=MLP((16,)),
    critic_network=MLP((16,)),
    batch_size=64,
)


def fitted(dataset, num_steps, **settings):
    config = dataclasses.replace(SMALL, **settings)
    state = init(IQL, config, dataset.spec, KEY)
    assert_equal(state.target_critic, state.critic.params)
    return learn(IQL, config, dataset, state, KEY, num_steps=num_steps)[0]


def test_values_of_a_two_state_chain():
    """Q(s₁) = V(s₁) = 2 and Q(s₀) = V(s₀) = 1 + 2γ."""
    state = fitted(chain(), 500, expectile=0.5)
    values = [1 + 0.9 * 2, 2.0]
    np.testing.assert_allclose(numpy_value(state.value.params, np.eye(2)), values, atol=0.05)
    q = numpy_critics(state.critic.params, np.eye(2), np.zeros((2, 1)))
    np.testing.assert_allclose(q[0], values, atol=0.1)


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_the_value_is_an_expectile_over_the_datas_actions(expectile):
    """Of rewards 1 and 2 equally often that is 1 + τ: SARSA's mean for τ = ½."""
    actions = np.tile([[-0.5], [0.5]], (64, 1))
    state = fitted(bandit(actions, 1.5 + actions[:, 0]), 500, expectile=expectile)
    assert numpy_value(state.value.params, np.zeros((1, 2)))[0] == pytest.approx(
        1 + expectile, abs=0.07
    )
    action = IQL.act(SMALL, state, jnp.zeros((1, 2)), None)
    assert action[0, 0] > 0.2


def test_a_categorical_policy_clones_discrete_actions_by_the_same_weights():
    config = dataclasses.replace(CONFIG, policy="categorical")
    dataset = random_dataset(discrete=True)
    batch = sample(dataset, KEY, 6)
    actor = IQL.init(config, dataset.spec, KEY).actor.params
    advantage = np.linspace(-1.0, 1.0, 6)
    logits = numpy_mlp(actor, np.asarray(batch.observation))
    log_prob = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    taken = (log_prob * np.asarray(batch.action)).sum(1)
    expected = -np.mean(np.minimum(np.exp(2.0 * advantage), 2.0) * taken)
    loss, _ = actor_loss(config, actor, batch, jnp.asarray(advantage), KEY)
    assert loss == pytest.approx(expected, rel=1e-5)
