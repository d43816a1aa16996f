"""CQL and SAC: what the penalty looks at, limits, and the probes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.common import cql_variants
from offrl_jax.algorithms.common.critics import q_values
from offrl_jax.algorithms.common.soft_actor_critic import Context
from offrl_jax.algorithms.cql import CQLConfig, candidate_actions
from offrl_jax.data import dataset_from_arrays
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import MLP
from tests.arrays import bandit, chain, random_dataset

CQL, SAC = ALGORITHMS["cql"], ALGORITHMS["sac"]
SMALL = {
    "actor_network": MLP((16, 16)),
    "critic_network": MLP((16, 16)),
    "batch_size": 32,
    "target_update_rate": 0.05,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
}


def test_several_actions_a_state_equal_one_by_one():
    dataset = random_dataset()
    config = CQLConfig(**SMALL)
    critic = init(CQL, config, dataset.spec, jax.random.key(0)).agent.critic.params
    observation = dataset.transitions.observation[:5]
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4, 3)).astype(np.float32)
    values = jax.jit(lambda action: q_values(config, critic, observation, action))
    together = values(actions)
    for n in range(4):
        alone = values(actions[:, n])
        np.testing.assert_allclose(together[..., n], alone, rtol=1e-5, atol=1e-6)


POLICY = TanhGaussian(jnp.full((2, 3), 0.3), jnp.full((2, 3), -0.5))
NEXT_POLICY = TanhGaussian(jnp.full((2, 3), -0.6), jnp.full((2, 3), -1.0))


def drawn(config, policy=POLICY, next_policy=NEXT_POLICY):
    context = Context(None, None, policy, next_policy, jax.random.key(0))
    return candidate_actions(config, context)


def of_a_policy(config, num):
    """Which of the actions Cal-QL takes for a policy's: it lifts their Q of 0 to a return of 1."""
    q = cql_variants.at_least_returns(config, jnp.zeros((1, 2, num)), jnp.ones(2))
    return (q[0, 1] == 1).tolist()


def assert_uniform(action, log_density):
    np.testing.assert_allclose(log_density, np.full(action.shape[:2], 3 * np.log(0.5)), rtol=1e-6)
    assert action.min() < -0.5 and action.max() > 0.5  # over both signs


def assert_drawn_from(policy, action, log_density):
    for j in range(action.shape[1]):
        np.testing.assert_allclose(log_density[:, j], policy.log_prob(action[:, j]), rtol=1e-3)


@pytest.mark.parametrize("variant", ["h", "author_v2"])
def test_candidates_carry_the_density_of_their_own_source(variant):
    config = CQLConfig(variant=variant, num_sampled_actions=5)
    action, log_density = drawn(config)
    assert action.shape == (2, 15, 3)
    assert_uniform(action[:, :5], log_density[:, :5])
    assert_drawn_from(POLICY, action[:, 5:10], log_density[:, 5:10])
    assert_drawn_from(NEXT_POLICY, action[:, 10:], log_density[:, 10:])
    assert of_a_policy(config, 15) == [False] * 5 + [True] * 10
    action = drawn(config, POLICY, POLICY).action
    assert not np.allclose(action[:, 5:10], action[:, 10:])  # though both sources are the same


@pytest.mark.parametrize("variant", ["rho", "v2", "v1"])
def test_an_expectation_looks_at_one_source_only(variant):
    for source in ("policy", "uniform"):
        config = CQLConfig(variant=variant, penalty_actions=source, num_sampled_actions=5)
        action, log_density = drawn(config)
        assert action.shape == (2, 5, 3)
        assert of_a_policy(config, 5) == [source == "policy"] * 5
        if source == "policy":
            assert_drawn_from(POLICY, action, log_density)
        else:
            assert_uniform(action, log_density)


@pytest.mark.parametrize("variant", ["h", "rho"])
def test_no_gradient_reaches_the_policies_through_the_candidates(variant):
    config = CQLConfig(variant=variant, num_sampled_actions=2)

    def total(mean):
        policy = TanhGaussian(mean, jnp.zeros((2, 3)))
        candidates = drawn(config, policy, policy)
        return candidates.action.sum() + candidates.log_density.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 3))), 0.0)


NUM_ROWS = 400  # of every dataset


def fitted(algorithm, dataset, num_steps, **settings):
    """One program of each algorithm learns from all datasets, which differ in their arrays only."""
    spec = dataclasses.replace(dataset.spec, fingerprint="any")
    dataset = dataclasses.replace(dataset, spec=spec)
    config = algorithm.Config(backup="deterministic", **SMALL | settings)
    key = jax.random.key(0)
    state = init(algorithm, config, dataset.spec, key)
    for _ in range(num_steps // 500):
        state, _ = learn(algorithm, config, dataset, state, key, num_steps=500)
    return config, state


def test_values_of_a_two_state_chain():
    """Q(s₁) = 2 and Q(s₀) = 1 + 2γ, the second state a true end."""
    config, state = fitted(SAC, chain(NUM_ROWS), 2000, discount=0.9)
    value = SAC.value(config, state, jnp.eye(2))
    np.testing.assert_allclose(value, [1 + 0.9 * 2, 2.0], atol=0.1)


def test_time_outs_bootstrap():
    """Reward 1 for ever, cut every 10 steps: Q = 1 / (1 − γ), not less."""
    rng = np.random.default_rng(0)
    dataset = dataset_from_arrays(
        np.ones((NUM_ROWS, 2)),
        rng.uniform(-1, 1, (NUM_ROWS, 1)),
        np.ones(NUM_ROWS),
        np.zeros(NUM_ROWS),
        timeout=np.arange(1, NUM_ROWS + 1) % 10 == 0,
        next_observation=np.ones((NUM_ROWS, 2)),
    )
    config, state = fitted(SAC, dataset, 1500, discount=0.8)
    assert SAC.value(config, state, jnp.ones((1, 2)))[0] == pytest.approx(5.0, abs=0.2)


@pytest.fixture(scope="module")
def narrow_bandit():
    """Actions only near −0.5, reward falling away from them on one side: Q extrapolates upward."""
    rng = np.random.default_rng(0)
    action = rng.normal(-0.5, 0.05, (NUM_ROWS, 1)).clip(-1, 1)
    return bandit(action, (action[:, 0] + 0.5) * 4.0)


def test_naive_actor_critic_leaves_the_data_and_cql_stays(narrow_bandit):
    actions = {}
    cold = {"initial_temperature": 0.01, "temperature_learning_rate": 0.0}
    for algorithm, settings in ((SAC, cold), (CQL, cold | {"conservative_weight": 5.0})):
        config, state = fitted(algorithm, narrow_bandit, 500, **settings)
        actions[algorithm.name] = float(algorithm.act(config, state, jnp.zeros((1, 2)), None)[0, 0])
        q = algorithm.q_values(config, state, jnp.zeros((1, 2)), jnp.array([[[-0.5], [0.9]]]))
        q = q.min(0)[0]
        # The critic's own ranking of the data's action against one it never saw.
        assert (q[0] > q[1]) == (algorithm is CQL)
    assert actions["sac"] > -0.2  # the data end six standard deviations below
    assert abs(actions["cql"] + 0.5) < 0.1


def test_cql_values_are_below_sac_values():
    """On noise where the policy's actions are unseen, the penalty lowers Q(s, π(s))."""
    dataset = random_dataset(NUM_ROWS, observation_size=2, action_size=1)
    values = {}
    for algorithm in (SAC, CQL):
        config, state = fitted(algorithm, dataset, 500)
        values[algorithm.name] = algorithm.value(
            config, state, dataset.transitions.observation[:64]
        ).mean()
    assert values["cql"] < values["sac"] - 0.3
