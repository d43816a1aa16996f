"""DQN, discrete CQL and discrete BCQ against targets by hand, a chain's Q* and their limits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.bcq_discrete import (
    BCQDiscreteConfig,
    constrained_greedy,
    is_supported,
    q_and_logits,
)
from offrl_jax.algorithms.bcq_discrete import critic_loss as bcq_loss
from offrl_jax.algorithms.common.discrete_q import quantiles, td_loss
from offrl_jax.algorithms.cql_discrete import CQLDiscreteConfig
from offrl_jax.algorithms.cql_discrete import critic_loss as cql_loss
from offrl_jax.algorithms.dqn import DQNConfig
from offrl_jax.data import dataset_from_arrays, sample
from offrl_jax.networks.modules import MLP
from offrl_jax.types import InputError
from tests.arrays import random_dataset
from tests.networks.test_modules import numpy_mlp

SMALL = {"critic_network": MLP((32,)), "batch_size": 64, "critic_learning_rate": 3e-3}
DATASET = random_dataset(discrete=True)
BATCH = sample(DATASET, jax.random.key(3), 16)


def two_states(name, config):
    """A state whose target critic is another one."""
    keys = jax.random.split(jax.random.key(0))
    states = [init(ALGORITHMS[name], config, DATASET.spec, key) for key in keys]
    return states[0]._replace(target_critic=states[1].critic.params)


def trained(name, config, dataset, num_steps=1500):
    algorithm, key = ALGORITHMS[name], jax.random.key(0)
    state = init(algorithm, config, dataset.spec, key)
    return learn(algorithm, config, dataset, state, key, num_steps=num_steps)


def numpy_values(config, critic, observation):
    """Q(s, ·) (B, n, A), in NumPy."""
    out = numpy_mlp(critic, observation)
    return out.reshape(len(out), config.num_quantiles, -1)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("num_quantiles", [1, 4])
def test_the_td_loss_is_that_of_numpy(double, num_quantiles):
    config = DQNConfig(double=double, num_quantiles=num_quantiles, **SMALL)
    state = two_states("dqn", config)
    s, a, r, s2, d = (np.asarray(x, np.float64) for x in BATCH[:5])
    target_q = numpy_values(config, state.target_critic, s2)
    chooser = numpy_values(config, state.critic.params, s2) if double else target_q
    chosen = chooser.mean(1).argmax(1)
    y = r[:, None] + 0.99 * (1 - d)[:, None] * target_q[np.arange(16), :, chosen]
    theta = numpy_values(config, state.critic.params, s)[np.arange(16), :, a.argmax(1)]
    u = y[:, None, :] - theta[:, :, None]
    huber = np.where(np.abs(u) <= 1, 0.5 * u**2, np.abs(u) - 0.5)
    level = ((np.arange(num_quantiles) + 0.5) / num_quantiles)[None, :, None]
    weight = 1.0 if num_quantiles == 1 else np.abs(level - (u < 0))
    expected = (weight * huber).mean(2).sum(1).mean()
    loss, (_, q) = td_loss(config, state.critic.params, state, BATCH)
    assert loss == pytest.approx(expected, rel=1e-4)
    expected_q = numpy_values(config, state.critic.params, s).mean(1)
    np.testing.assert_allclose(q, expected_q, atol=1e-5)


def test_no_gradient_reaches_the_target():
    config = DQNConfig(**SMALL)
    state = two_states("dqn", config)

    def loss(target_critic):
        other = state._replace(target_critic=target_critic)
        return td_loss(config, state.critic.params, other, BATCH)[0]

    gradient = jax.grad(loss)(state.target_critic)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def corridor(num_rows=600):
    """Three cells; 0 is left, 1 right; right of the last pays 1 and ends. Random data."""
    rng = np.random.default_rng(0)
    cell, action = rng.integers(0, 3, num_rows), rng.integers(0, 2, num_rows)
    end = (cell == 2) & (action == 1)
    after = np.clip(cell + 2 * action - 1, 0, 2)
    return dataset_from_arrays(
        *(np.eye(3)[cell], action, end.astype(float), end),
        timeout=~end,
        next_observation=np.eye(3)[after],
        num_actions=2,
    )


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"double": False}, marks=pytest.mark.slow), {"num_quantiles": 5}],
    ids=str,
)
def test_dqn_finds_the_optimal_values_of_a_corridor_from_random_data(settings):
    """Q* = γ^k of the steps k to the end after this one; all states are walked from at random."""
    config = DQNConfig(discount=0.5, target_update_rate=0.05, **SMALL, **settings)
    state, _ = trained("dqn", config, corridor())
    q = quantiles(config, state.critic.params, jnp.eye(3)).mean(1)
    np.testing.assert_allclose(q, [[0.125, 0.25], [0.125, 0.5], [0.25, 1.0]], atol=0.03)


def test_quantiles_are_those_of_the_rewards():
    """Rewards 0 and 1, as often, of a single step: the lower quantiles are 0, the upper 1."""
    rewards = np.tile([0.0, 1.0], 100)
    dataset = dataset_from_arrays(
        *(np.zeros((200, 2)), np.arange(200) // 2 % 2, rewards, np.ones(200)),
        next_observation=np.zeros((200, 2)),
        num_actions=2,
    )
    config = DQNConfig(num_quantiles=4, huber_threshold=0.05, **SMALL)
    state, _ = trained("dqn", config, dataset)
    found = quantiles(config, state.critic.params, jnp.zeros((1, 2)))[0]
    np.testing.assert_allclose(found, [[0, 0], [0, 0], [1, 1], [1, 1]], atol=0.08)


def test_cql_adds_its_gap():
    config = CQLDiscreteConfig(conservative_weight=2.5, **SMALL)
    state = two_states("cql_discrete", config)
    critic = state.critic.params
    q = numpy_values(config, critic, np.asarray(BATCH.observation))[:, 0]
    taken = (q * np.asarray(BATCH.action)).sum(1)
    gap = np.mean(np.log(np.exp(q).sum(1)) - taken)
    loss, metrics = cql_loss(config, critic, state, BATCH)
    plain, _ = td_loss(config, critic, state, BATCH)
    assert metrics["critic/gap"] == pytest.approx(gap, rel=1e-4)
    assert loss - plain == pytest.approx(2.5 * gap, rel=1e-4)


def test_cql_is_stationary_at_its_fixed_point():
    """One state, one step: Q = r − w (softmax(Q) / β − 1), where errors count ½ of their square."""
    beta, reward, weight = np.array([0.8, 0.2]), np.array([1.0, 3.0]), 0.5
    q = reward.copy()
    for _ in range(1000):
        share = np.exp(q) / np.exp(q).sum()
        q += 0.1 * (reward - weight * (share / beta - 1) - q)
    action = np.array([0, 0, 0, 0, 1])
    dataset = dataset_from_arrays(
        *(np.zeros((5, 2)), action, reward[action], np.ones(5)),
        next_observation=np.zeros((5, 2)),
        num_actions=2,
    )
    config = CQLDiscreteConfig(conservative_weight=weight, huber_threshold=100.0, **SMALL)
    state = init(ALGORITHMS["cql_discrete"], config, dataset.spec, jax.random.key(0))

    def gradient(q):
        critic = jax.tree.map(jnp.zeros_like, state.critic.params)
        critic["head"]["bias"] = jnp.asarray(q, jnp.float32)
        of_critic, _ = jax.grad(cql_loss, argnums=1, has_aux=True)(
            config, critic, state, dataset.transitions
        )
        return of_critic["head"]["bias"]

    np.testing.assert_allclose(gradient(q), 0.0, atol=1e-6)
    assert np.abs(gradient(reward)).max() > 0.01


def test_likely_actions_are_supported_and_the_likeliest_always():
    logits = jnp.log(jnp.array([[0.6, 0.3, 0.1]]))
    assert is_supported(logits, 0.3).tolist() == [[True, True, False]]
    assert is_supported(logits, 1.0).tolist() == [[True, False, False]]
    assert is_supported(logits, 0.0).all()


def test_unsupported_actions_lose_to_negative_values():
    q, logits = jnp.array([[-5.0, -3.0, 9.0]]), jnp.log(jnp.array([[0.5, 0.45, 0.05]]))
    assert constrained_greedy(q, logits, 0.3).tolist() == [[0, 1, 0]]


def test_bcq_is_dqn_at_threshold_0_and_cloning_at_1():
    for threshold in (0.0, 1.0):
        config = BCQDiscreteConfig(support_threshold=threshold, **SMALL)
        state = two_states("bcq_discrete", config)
        q, logits = q_and_logits(config, state.critic.params, BATCH.observation)
        chosen = ALGORITHMS["bcq_discrete"].act(config, state, BATCH.observation, None).argmax(1)
        assert (chosen == (logits if threshold else q).argmax(1)).all()
    assert (logits.argmax(1) != q.argmax(1)).any()


def test_bcqs_loss_is_that_of_numpy():
    config = BCQDiscreteConfig(logit_penalty=0.3, **SMALL)
    state = two_states("bcq_discrete", config)
    both = DQNConfig(num_quantiles=2, **SMALL)  # the same head, read as two numbers an action
    s, a, r, s2, d = (np.asarray(x, np.float64) for x in BATCH[:5])
    q, logits = numpy_values(both, state.critic.params, s).swapaxes(0, 1)
    next_q, next_logits = numpy_values(both, state.critic.params, s2).swapaxes(0, 1)
    share = np.exp(next_logits) / np.exp(next_logits).max(1, keepdims=True)
    chosen = np.where(share > 0.3, next_q, -np.inf).argmax(1)
    target_q = numpy_values(both, state.target_critic, s2)[np.arange(16), 0, chosen]
    u = r + 0.99 * (1 - d) * target_q - (q * a).sum(1)
    huber = np.where(np.abs(u) <= 1, 0.5 * u**2, np.abs(u) - 0.5).mean()
    log_g = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = huber - (log_g * a).sum(1).mean() + 0.3 * (logits**2).mean()
    loss, _ = bcq_loss(config, state.critic.params, state, BATCH)
    assert loss == pytest.approx(expected, rel=1e-4)


class OfPairs(nn.Module):
    """Takes (s, a) alone."""

    @nn.compact
    def __call__(self, observation, action):
        return nn.Dense(8)(jnp.concatenate([observation, action], axis=-1))


@pytest.mark.parametrize("name", ["dqn", "bcq_discrete", "cql_discrete"])
def test_a_critic_that_needs_an_action_is_refused(name):
    config = ALGORITHMS[name].Config(critic_network=OfPairs())
    with pytest.raises(
        InputError, match="OfPairs needs an action, but a network of states is required"
    ):
        init(ALGORITHMS[name], config, DATASET.spec, jax.random.key(0))


@pytest.mark.parametrize("name", ["bc", "dqn"])
def test_actions_of_another_kind_are_refused(name):
    algorithm = ALGORITHMS[name]
    other = random_dataset(discrete=not algorithm.discrete(algorithm.Config()))
    with pytest.raises(ValueError, match=f"actions of dataset arrays are .* but {name} as"):
        init(algorithm, algorithm.Config(), other.spec, jax.random.key(0))


def unseen(algorithm, config):
    """What is chosen where the third of three actions is in no data, and the second pays most."""
    action = np.arange(300) % 2
    dataset = dataset_from_arrays(
        *(np.zeros((300, 2)), action, action - 2.0, np.ones(300)),
        next_observation=np.zeros((300, 2)),
        num_actions=3,
    )
    state, _ = trained(algorithm, config, dataset, 500)
    action = ALGORITHMS[algorithm].act(config, state, jnp.zeros((1, 2)), None)
    return int(np.asarray(action).argmax())


@pytest.mark.slow
def test_only_the_naive_learner_picks_an_action_that_no_data_show():
    """Rewards are negative, and nothing moves the third action's value from where it started."""
    constrained = {
        "bcq_discrete": BCQDiscreteConfig(**SMALL),
        "cql_discrete": CQLDiscreteConfig(conservative_weight=1.0, **SMALL),
        "iql": ALGORITHMS["iql"].Config(
            policy="categorical",
            actor_network=MLP((32,)),
            actor_learning_rate=3e-3,
            value_network=MLP((32,)),
            critic_network=MLP((32,)),
            critic_learning_rate=3e-3,
            batch_size=64,
        ),
    }
    assert unseen("dqn", DQNConfig(**SMALL)) == 2
    assert {name: unseen(name, config) for name, config in constrained.items()} == dict.fromkeys(
        constrained, 1
    )
