"""Behaviour cloning against what it must recover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.bc import BCConfig, actor_loss, policy_of
from offrl_jax.data import dataset_from_arrays
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.heads import gaussian_policy
from offrl_jax.networks.modules import MLP
from tests.arrays import bandit, random_dataset

BC = ALGORITHMS["bc"]
SMALL = {"network": MLP((16,)), "batch_size": 64, "learning_rate": 3e-3}


def cloned(dataset, config, num_steps=600):
    key = jax.random.key(0)
    state = init(BC, config, dataset.spec, key)
    return learn(BC, config, dataset, state, key, num_steps=num_steps)[0]


@pytest.mark.parametrize("policy", ["gaussian", "deterministic"])
def test_recovers_a_constant_action(policy):
    dataset = bandit(np.full((64, 2), [0.5, -0.3]), np.zeros(64))
    config = BCConfig(policy=policy, **SMALL)
    action = BC.act(config, cloned(dataset, config), jnp.zeros((1, 2)), None)
    np.testing.assert_allclose(action, [[0.5, -0.3]], atol=0.02)


def test_mean_squared_error_averages_modes():
    """Half −0.9, half +0.9: the deterministic policy acts as nobody in the data did."""
    actions = np.tile([[-0.9], [0.9]], (32, 1))
    config = BCConfig(policy="deterministic", **SMALL)
    action = BC.act(config, cloned(bandit(actions, np.zeros(64)), config), jnp.zeros((1, 2)), None)
    assert abs(action[0, 0]) < 0.15


def test_likelihood_recovers_the_spread():
    rng = np.random.default_rng(0)
    actions = np.tanh(0.4 + 0.5 * rng.normal(size=(4000, 1)))
    config = BCConfig(**SMALL)
    state = cloned(bandit(actions, np.zeros(4000)), config, num_steps=1500)
    policy = gaussian_policy(config.network, state.actor.params, jnp.zeros((1, 2)))
    assert policy.mean[0, 0] == pytest.approx(0.4, abs=0.1)
    assert np.exp(policy.log_std[0, 0]) == pytest.approx(0.5, abs=0.08)


def test_losses_are_their_formulas():
    batch = jax.tree.map(lambda x: x[:8], random_dataset().transitions)
    for policy in ("gaussian", "deterministic"):
        config = BCConfig(policy=policy, network=MLP((16,)))
        state = BC.init(config, random_dataset().spec, jax.random.key(0))
        params = jax.tree.map(np.asarray, state.actor.params)
        layer, head = params["network"]["Dense_0"], params["head"]
        hidden = np.maximum(batch.observation @ layer["kernel"] + layer["bias"][None], 0)
        output = hidden @ head["kernel"] + head["bias"][None]
        if policy == "deterministic":
            expected = np.mean((np.tanh(output) - batch.action) ** 2)
        else:
            mean, log_std = jnp.split(output, 2, -1)
            expected = -np.mean(TanhGaussian(mean, log_std).log_prob(batch.action))
        loss, metrics = actor_loss(config, state.actor.params, batch)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert metrics == {"actor/loss": loss}


def test_categorical_likelihood_recovers_the_shares_of_discrete_actions():
    """The tabular maximum likelihood is counts; two states, other shares in each."""
    state = np.arange(400) % 2
    action = np.where(state == 0, np.arange(400) // 2 % 4 == 0, np.arange(400) // 2 % 2 == 0)
    dataset = dataset_from_arrays(
        *(np.eye(2)[state], action.astype(int), np.zeros(400), np.ones(400)),
        next_observation=np.zeros((400, 2)),
        num_actions=3,
    )
    config = BCConfig(policy="categorical", **SMALL)
    actor = cloned(dataset, config, num_steps=1500).actor.params
    shares = jax.nn.softmax(policy_of(config, actor, jnp.eye(2)).logits)
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [0.5, 0.5, 0]], atol=0.06)
