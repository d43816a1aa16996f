"""CQL(H) and SAC: one update against an independent NumPy derivation, limits, and the probe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.cql import CQLConfig, candidate_actions, critic_loss
from offrl_jax.distributions import TanhGaussian
from offrl_jax.losses.conservative import importance_weighted_logsumexp
from offrl_jax.soft_actor_critic import q_values
from tests.arrays import bandit, chain, random_dataset

CQL, SAC = ALGORITHMS["cql"], ALGORITHMS["sac"]
SMALL = {
    "actor_hidden_sizes": (16, 16),
    "critic_hidden_sizes": (16, 16),
    "batch_size": 32,
    "target_update_rate": 0.05,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
}


def numpy_critic(params, k, observation, action):
    """Q_k(s, a) of a 16–16 network, layer by layer, for one observation and one action."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64)[k], params["params"])
    x = np.maximum(np.concatenate([observation, action]) @ p["kernel"] + p["bias"], 0)
    x = np.maximum(x @ p["MLP_0"]["Dense_0"]["kernel"] + p["MLP_0"]["Dense_0"]["bias"], 0)
    return float((x @ p["MLP_0"]["head"]["kernel"] + p["MLP_0"]["head"]["bias"])[0])


def test_critic_loss_equals_a_derivation_in_numpy():
    """Σ_k mean_b {(Q_k − y)² + w [log Σ_j exp(Q_k(s, a_j)) / μ(a_j) − Q_k(s, a)]}, by loops."""
    dataset = random_dataset()
    config = CQLConfig(num_critics=3, conservative_weight=2.5, **SMALL)
    state = CQL.init(config, dataset.spec, jax.random.key(0))
    batch = jax.tree.map(lambda x: x[:6], dataset.transitions)
    rng = np.random.default_rng(0)
    target = rng.normal(size=6).astype(np.float32)
    candidates = rng.uniform(-1, 1, (6, 4, 3)).astype(np.float32)
    log_density = rng.normal(size=(6, 4)).astype(np.float32)

    expected = 0.0
    for k in range(3):
        for b in range(6):
            observation = np.asarray(batch.observation[b])
            q = numpy_critic(state.critic, k, observation, np.asarray(batch.action[b]))
            ratios = [
                np.exp(numpy_critic(state.critic, k, observation, candidates[b, j]))
                / np.exp(log_density[b, j])
                for j in range(4)
            ]
            expected += ((q - target[b]) ** 2 + 2.5 * (np.log(sum(ratios)) - q)) / 6
    loss, _ = critic_loss(
        state.critic,
        batch,
        jnp.asarray(target),
        jnp.asarray(candidates),
        jnp.asarray(log_density),
        config,
    )
    assert loss == pytest.approx(expected, rel=1e-5)


def test_several_actions_a_state_equal_one_by_one():
    dataset = random_dataset()
    config = CQLConfig(**SMALL)
    critic = CQL.init(config, dataset.spec, jax.random.key(0)).critic
    observation = dataset.transitions.observation[:5]
    actions = jax.random.uniform(jax.random.key(1), (5, 4, 3), minval=-1)
    together = q_values(config, critic, observation, actions)
    for n in range(4):
        alone = q_values(config, critic, observation, actions[:, n])
        np.testing.assert_allclose(together[..., n], alone, rtol=1e-5, atol=1e-6)


def test_candidates_carry_the_density_of_their_own_source():
    policy = TanhGaussian(jnp.full((2, 3), 0.3), jnp.full((2, 3), -0.5))
    next_policy = TanhGaussian(jnp.full((2, 3), -0.6), jnp.full((2, 3), -1.0))
    actions, log_density = candidate_actions(policy, next_policy, 5, jax.random.key(0))
    assert actions.shape == (2, 15, 3)
    np.testing.assert_allclose(log_density[:, :5], 3 * np.log(0.5), rtol=1e-6)
    for j in range(5, 10):
        np.testing.assert_allclose(log_density[:, j], policy.log_prob(actions[:, j]), rtol=1e-3)
    for j in range(10, 15):
        np.testing.assert_allclose(
            log_density[:, j], next_policy.log_prob(actions[:, j]), rtol=1e-3
        )
    assert actions[:, :5].min() < -0.5 and actions[:, :5].max() > 0.5  # uniform over both signs


def test_no_gradient_reaches_the_policies_through_the_candidates():
    def total(mean):
        policy = TanhGaussian(mean, jnp.zeros((2, 3)))
        actions, log_density = candidate_actions(policy, policy, 2, jax.random.key(0))
        return actions.sum() + log_density.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 3))), 0.0)


def test_adding_a_constant_to_q_changes_no_penalty():
    dataset = random_dataset()
    config = CQLConfig(**SMALL)
    critic = CQL.init(config, dataset.spec, jax.random.key(0)).critic
    shifted = jax.tree.map(jnp.copy, critic)
    shifted["params"]["MLP_0"]["head"]["bias"] += 7.0
    batch = jax.tree.map(lambda x: x[:6], dataset.transitions)
    candidates = jax.random.uniform(jax.random.key(1), (6, 4, 3), minval=-1)
    gaps = [
        float(
            critic_loss(q, batch, jnp.zeros(6), candidates, jnp.zeros((6, 4)), config)[1][
                "critic/gap"
            ]
        )
        for q in (critic, shifted)
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-4)


def test_without_weight_cql_is_sac():
    dataset = random_dataset()
    key = jax.random.key(0)
    states = []
    for algorithm, extra in ((SAC, {}), (CQL, {"conservative_weight": 0.0})):
        config = algorithm.Config(backup_entropy=True, **SMALL, **extra)
        state = algorithm.init(config, dataset.spec, key)
        batch = jax.tree.map(lambda x: x[:32], dataset.transitions)
        states.append(algorithm.update(config, state, batch, key)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *states)


def test_the_tabular_fixed_point():
    """Q = y − α (softmax(Q) / β − 1), where ½ β-weighted Bellman error + α gap is least.

    The three actions of one state are all candidates, each counted once.
    """
    behavior, target, alpha = jnp.array([0.6, 0.3, 0.1]), jnp.array([1.0, 2.0, 0.5]), 0.4

    def objective(q):
        bellman = 0.5 * jnp.sum(behavior * jnp.square(q - target))
        logsumexp = importance_weighted_logsumexp(q[None], jnp.zeros((1, 3)))[0]
        return bellman + alpha * (logsumexp - jnp.sum(behavior * q))

    q = target
    for _ in range(2000):
        q = q - 0.5 * jax.grad(objective)(q)
    expected = target - alpha * (jax.nn.softmax(q) / behavior - 1.0)
    np.testing.assert_allclose(q, expected, atol=1e-4)
    assert q[0] > target[0] and q[2] < target[2]  # the data's action up, the rare one down


def fitted(algorithm, dataset, num_steps, **settings):
    config = algorithm.Config(**SMALL | settings)
    key = jax.random.key(0)
    state = init(algorithm, config, dataset.spec, key)
    return config, learn(algorithm, config, dataset, state, key, num_steps=num_steps)[0]


def test_values_of_a_two_state_chain():
    """Q(s₁) = 2 and Q(s₀) = 1 + 2γ, the second state a true end."""
    dataset = chain()
    config, state = fitted(SAC, dataset, 2000, discount=0.9, backup_entropy=False)
    value = SAC.value(config, state, jnp.eye(2))
    np.testing.assert_allclose(value, [1 + 0.9 * 2, 2.0], atol=0.1)


def test_time_outs_bootstrap():
    """Reward 1 for ever, cut every 10 steps: Q = 1 / (1 − γ), not less."""
    from offrl_jax.data import from_arrays

    n = 400
    rng = np.random.default_rng(0)
    dataset = from_arrays(
        np.ones((n, 2)),
        rng.uniform(-1, 1, (n, 1)),
        np.ones(n),
        np.zeros(n),
        truncation=np.arange(1, n + 1) % 10 == 0,
        next_observation=np.ones((n, 2)),
    )
    config, state = fitted(SAC, dataset, 1500, discount=0.8, backup_entropy=False)
    assert SAC.value(config, state, jnp.ones((1, 2)))[0] == pytest.approx(5.0, abs=0.2)


@pytest.fixture(scope="module")
def narrow_bandit():
    """Actions only near −0.5, reward falling away from them on one side: Q extrapolates upward."""
    rng = np.random.default_rng(0)
    action = rng.normal(-0.5, 0.05, (512, 1)).clip(-1, 1)
    return bandit(action, (action[:, 0] + 0.5) * 4.0)


def test_naive_actor_critic_leaves_the_data_and_cql_stays(narrow_bandit):
    actions = {}
    cold = {"initial_temperature": 0.01, "temperature_learning_rate": 0.0}
    for algorithm, settings in ((SAC, cold), (CQL, cold | {"conservative_weight": 5.0})):
        config, state = fitted(algorithm, narrow_bandit, 500, **settings)
        actions[algorithm.name] = float(algorithm.act(config, state, jnp.zeros((1, 2)), None)[0, 0])
        q = q_values(config, state.critic, jnp.zeros((1, 2)), jnp.array([[[-0.5], [0.9]]])).min(0)[
            0
        ]
        # The critic's own ranking of the data's action against one it never saw.
        assert (q[0] > q[1]) == (algorithm is CQL)
    assert actions["sac"] > -0.2  # the data end six standard deviations below
    assert abs(actions["cql"] + 0.5) < 0.1


def test_cql_values_are_below_sac_values():
    """On noise where the policy's actions are unseen, the penalty lowers Q(s, π(s))."""
    dataset = random_dataset(num_rows=960)
    values = {}
    for algorithm in (SAC, CQL):
        config, state = fitted(algorithm, dataset, 400, backup_entropy=False)
        values[algorithm.name] = algorithm.value(
            config, state, dataset.transitions.observation[:64]
        ).mean()
    assert values["cql"] < values["sac"]
