"""Accident critics of fixed data around a trained policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.data import dataset_from_arrays
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.runs.policy import Policy
from offrl_jax.safety import offline
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import InputError
from tests import toy

CONFIG = SafetyConfig(
    hidden_sizes=(32,),
    critic_learning_rate=1e-2,
    conservative_weight=0.0,
    num_policy_actions=2,
    batch_size=64,
)


def dangerous_dataset():
    """Positive first actions fail at once, the others do not; the toy's rule acts at +0.5."""
    rng = np.random.default_rng(0)
    n = 400
    action = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    failed = (action[:, 0] > 0).astype(float)
    dataset = dataset_from_arrays(
        rng.normal(size=(n, 2)), action, np.zeros(n), np.ones(n), name="danger", env_id=toy.ENV_ID
    )
    return dataset, failed


@pytest.fixture(scope="module")
def learned():
    dataset, failed = dangerous_dataset()
    config = toy.RuleConfig()
    state = toy.init(config, dataset.spec, None)
    critic, metrics = offline.learn_accident_critic(
        CONFIG, dataset, failed, toy.rule, config, state, jax.random.key(0), num_steps=300
    )
    return dataset, config, state, critic, metrics


def test_the_critic_learns_which_actions_failed(learned):
    dataset, _, _, critic, metrics = learned
    observation = dataset.transitions.observation[:3]
    action = jnp.tile(jnp.array([[[0.8, 0.0], [-0.8, 0.0]]]), (3, 1, 1))
    q = offline.accident_q(CONFIG, critic.network.params, observation, action)
    assert (q[:, 0] > 0.8).all() and (q[:, 1] < 0.2).all()
    assert float(metrics["critic/bellman_loss"]) < 0.05


def test_a_shielded_policy_acts_as_before_where_that_is_safe_and_else_otherwise(learned):
    dataset, config, state, critic, _ = learned
    observation = dataset.transitions.observation[:20]
    guarded = offline.shielded_state(state, critic)
    free = offline.shielded(toy.rule, CONFIG, epsilon=2.0)
    np.testing.assert_allclose(
        free.act(config, guarded, observation, None), toy.act(config, state, observation, None)
    )
    careful = offline.shielded(toy.rule, CONFIG, epsilon=0.3, spread=0.5)
    action = careful.act(config, guarded, observation, None)
    assert (action[:, 0] < 0.1).all()  # the rule's own is +0.5
    q = offline.accident_q(CONFIG, critic.network.params, observation, action)
    assert (q <= 0.3).mean() > 0.9
    np.testing.assert_array_equal(action, careful.act(config, guarded, observation, None))
    drawn = careful.act(config, guarded, observation, jax.random.key(5))
    assert not np.allclose(action, drawn) and (drawn[:, 0] < 0.1).all()
    assert careful is offline.shielded(toy.rule, CONFIG, epsilon=0.3, spread=0.5)
    exact = offline.shielded(toy.rule, CONFIG, epsilon=0.25, spread=0.5)
    assert exact is offline.shielded(toy.rule, CONFIG, epsilon=jnp.float32(0.25), spread=0.5)


def test_several_seeds_learn_as_one_does(learned):
    dataset, config, state, critic, _ = learned
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])

    def of_seed(state, key):
        learn, cost = offline.learn_accident_critic, dangerous_dataset()[1]
        return learn(CONFIG, dataset, cost, toy.rule, config, state, key, num_steps=300)[0]

    critics = jax.vmap(of_seed)(states, keys)
    observation, action = dataset.transitions.observation[:50], dataset.transitions.action[:50]
    alone, first, second = (
        offline.accident_q(CONFIG, params, observation, action)
        for params in (
            critic.network.params,
            *(jax.tree.map(lambda x, i=i: x[i], critics.network.params) for i in range(2)),
        )
    )
    np.testing.assert_allclose(first, alone, atol=1e-3)
    assert np.abs(second - first).max() > 1e-2


def test_it_goes_where_policies_go(learned):
    dataset, config, state, critic, _ = learned
    guarded = offline.shielded_state(state, critic)
    careful = offline.shielded(toy.rule, CONFIG, epsilon=0.3, spread=0.5)
    policy = Policy(careful, config, guarded, dataset.spec, dataset.preprocessing)
    assert policy(np.zeros(2))[0] < 0.1
    toyed = toy.toy_dataset()
    seeds = jax.tree.map(lambda x: jnp.stack([x, x]), guarded)
    returns = [
        Evaluator(algorithm, toyed, (2,), 2)(config, states).episode_return
        for algorithm, states in ((careful, seeds), (toy.rule, seeds.policy))
    ]
    assert (returns[0] < returns[1]).all()  # the toy pays the first action


def test_costs_are_a_choice_and_checked():
    dataset, failed = dangerous_dataset()
    np.testing.assert_array_equal(offline.costs(dataset, "terminal"), 1)
    np.testing.assert_array_equal(offline.costs(dataset, failed), failed)
    for cost, words in (
        ("cost", "cost='cost'; give a column of costs"),
        (failed[1:], "has shape"),
        (failed * 0.5, "other than 0 and 1"),
        (failed * 0, "holds no accident"),
    ):
        with pytest.raises(InputError, match=words):
            offline.costs(dataset, cost)
    discrete = toy.toy_dataset(discrete=True)
    with pytest.raises(InputError, match="discrete actions; a shield needs continuous"):
        offline.learn_accident_critic(
            CONFIG, discrete, "terminal", toy.rule, None, None, jax.random.key(0), num_steps=1
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_steps": 0}, "num_steps=0; give at least one"),
        ({"config": SafetyConfig(accident_discount=2.0)}, "accident_discount=2.0 is outside"),
        ({"state": toy.RuleState(*jnp.zeros((3, 2)))}, "of 2 seeds; give one seed's"),
    ],
)
def test_what_a_critic_cannot_be_learned_with_is_said(change, words):
    dataset, failed = dangerous_dataset()
    given = {"config": CONFIG, "state": toy.init(None, dataset.spec, None), "num_steps": 1} | change
    with pytest.raises(InputError, match=words):
        offline.learn_accident_critic(
            given["config"],
            *(dataset, failed, toy.rule, toy.RuleConfig(), given["state"], jax.random.key(0)),
            num_steps=given["num_steps"],
        )


@pytest.mark.parametrize(
    ("algorithm", "options", "words"),
    [
        (ALGORITHMS["dqn"], {"epsilon": 0.2}, "dqn has discrete actions; a shield needs"),
        (toy.rule, {"epsilon": float("nan")}, "epsilon is NaN"),
        (toy.rule, {"epsilon": 0.2, "spread": jnp.float32("nan")}, "spread is NaN"),
    ],
)
def test_what_cannot_be_shielded_is_said(algorithm, options, words):
    with pytest.raises(InputError, match=words):
        offline.shielded(algorithm, CONFIG, **options)
