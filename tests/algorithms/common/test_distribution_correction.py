"""DisCor: the errors' target and their fixed point, the weighted loss, and that it is an option."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.common import critics, distribution_correction, soft_actor_critic
from offrl_jax.algorithms.common.distribution_correction import next_error, step
from offrl_jax.algorithms.common.soft_actor_critic import SoftActorCriticConfig
from offrl_jax.algorithms.sac import SACConfig, SACState
from offrl_jax.networks.heads import critic_values, gaussian_policy
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_critics

SAC = ALGORITHMS["sac"]
DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[35:44], DATASET.transitions)  # a true end is among them
KEY = jax.random.key(1)
CONFIG = SACConfig(
    td_weighting="discor",
    num_critics=3,
    actor_network=MLP((8,)),
    critic_network=MLP((8,)),
    error_network=MLP((8, 8)),
    batch_size=9,
    discount=0.9,
    target_update_rate=0.1,
    initial_error_temperature=2.0,
)
UNIFORM = dataclasses.replace(CONFIG, td_weighting="uniform")
AGENT, ERROR = init(SAC, CONFIG, DATASET.spec, KEY)
AGENT = AGENT._replace(
    critic=AGENT.critic._replace(params=filled(AGENT.critic.params, 0)),
    target_critic=filled(AGENT.target_critic, 1),
)
ERROR = ERROR._replace(
    network=ERROR.network._replace(params=filled(ERROR.network.params, 2)),
    target_network=filled(ERROR.target_network, 3),
)
STATE = SACState(AGENT, ERROR)


@pytest.fixture(scope="module")
def stepped():
    return jax.jit(SAC.update)(CONFIG, STATE, BATCH, KEY)


def slope(loss, params, seed):
    """A random direction, and the loss's slope along it by central differences."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    ahead, behind = (
        loss(jax.tree.map(lambda x, d, h=h: np.asarray(x, np.float64) + h * d, params, direction))
        for h in (1e-5, -1e-5)
    )
    return direction, (ahead - behind) / 2e-5


def along(direction, trainable):
    """Adam's first moment is a tenth of the gradient."""
    first_moment = trainable.opt_state[0].mu
    parts = jax.tree.map(lambda g, d: 10 * np.sum(g * d), first_moment, direction)
    return sum(jax.tree.leaves(parts))


def test_a_step_weighs_the_squared_errors_and_learns_the_errors_in_numpy(stepped):
    """With y, a′ and the networks before the step:

    L_Q = Σ_k Σ_b w_kb (Q_k − y)²,  w = softmax_b( −γ (1 − d) Δ̄_k(s′, a′) / T )
    L_Δ = Σ_k mean_b (Δ_k − |Q_k − y| − γ (1 − d) Δ̄_k(s′, a′))²
    """
    after, metrics = stepped
    _, next_key, critic_key = jax.random.split(KEY, 3)
    s, s_next, going_on = BATCH.observation, BATCH.next_observation, 1 - np.asarray(BATCH.terminal)
    assert 0 < going_on.sum() < 9
    policy = gaussian_policy(MLP((8,)), AGENT.actor.params, s_next)
    action, log_prob = policy.sample_and_log_prob(next_key)
    value = numpy_critics(AGENT.target_critic, s_next, action).min(0)
    target = np.asarray(BATCH.reward) + 0.9 * going_on * (value - np.asarray(log_prob))  # α = 1
    other = policy.sample_and_log_prob(critic_key)[0]
    following = 0.9 * going_on * numpy_critics(ERROR.target_network, s_next, other)
    weight = np.exp(-following / 2.0)
    weight = weight / weight.sum(1, keepdims=True)
    assert weight.max() > 2 * weight.min()
    td_error = np.abs(numpy_critics(AGENT.critic.params, s, BATCH.action) - target)

    def critic_loss(critic):
        return (weight * (numpy_critics(critic, s, BATCH.action) - target) ** 2).sum()

    def error_loss(network):
        error = numpy_critics(network, s, BATCH.action)
        return ((error - td_error - following) ** 2).mean(1).sum()

    assert float(metrics["critic/loss"]) == pytest.approx(
        critic_loss(AGENT.critic.params), rel=1e-4
    )
    direction, expected = slope(critic_loss, AGENT.critic.params, 0)
    assert along(direction, after.agent.critic) == pytest.approx(expected, rel=1e-3)
    direction, expected = slope(error_loss, ERROR.network.params, 1)
    assert along(direction, after.error.network) == pytest.approx(expected, rel=1e-3)
    effective = float(metrics["critic/effective_batch"])
    assert effective == pytest.approx((1 / (weight**2).sum(1)).mean(), rel=1e-4)

    error = numpy_critics(ERROR.network.params, s, BATCH.action).mean(1)
    np.testing.assert_allclose(after.error.temperature, 2 + 0.1 * (error - 2), rtol=1e-4)
    jax.tree.map(
        lambda a, t, n: np.testing.assert_allclose(a, t + 0.1 * (n - t), atol=1e-5),
        *(after.error.target_network, ERROR.target_network, after.error.network.params),
    )


def test_error_networks_are_an_ensemble_like_the_critics_of_a_network_of_their_own():
    """By default of a layer more than the critics'."""
    default = SACConfig()
    assert default.error_network == MLP((*default.critic_network.hidden_sizes, 256))
    shapes = [
        sorted(x.shape for x in jax.tree.leaves(p))
        for p in (AGENT.critic.params, ERROR.network.params)
    ]
    assert sorted([*shapes[0], (3, 8, 8), (3, 8)]) == shapes[1]


def test_equal_errors_make_the_step_sacs_own(stepped):
    """Weights of 1/B are a mean, and what learns beside the critics does not touch them."""
    members = ERROR.target_network["members"]
    flat = {"members": members | {"head": jax.tree.map(jnp.zeros_like, members["head"])}}
    state = STATE._replace(error=ERROR._replace(target_network=flat))
    weighted, metrics = jax.jit(SAC.update)(CONFIG, state, BATCH, KEY)
    plain, _ = jax.jit(SAC.update)(UNIFORM, SACState(AGENT, None), BATCH, KEY)
    assert plain.error is None
    assert float(metrics["critic/effective_batch"]) == pytest.approx(9, rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        *(weighted.agent, plain.agent),
    )
    moments = [jax.tree.leaves(s.agent.critic.opt_state)[1] for s in (stepped[0], plain)]
    assert not np.allclose(*moments, atol=1e-4)


def test_without_it_sac_is_the_shared_soft_actor_critic_bit_for_bit():
    settings = {f.name: getattr(UNIFORM, f.name) for f in dataclasses.fields(SoftActorCriticConfig)}
    shared = SoftActorCriticConfig(**settings)

    def update(config, state, batch, key):
        after, context, metrics = soft_actor_critic.policy_step(config, state, batch, key)
        gradient, critic_metrics = jax.grad(critics.critic_loss, argnums=1, has_aux=True)(
            config, state.critic.params, batch, context.target
        )
        after = soft_actor_critic.critic_step(config, after, gradient)
        return after, metrics | critic_metrics

    ours = init(SAC, UNIFORM, DATASET.spec, KEY)
    assert ours.error is None
    theirs = soft_actor_critic.init(shared, DATASET.spec, KEY)
    for _ in range(2):
        ours, metrics = jax.jit(SAC.update)(UNIFORM, ours, BATCH, KEY)
        theirs, their_metrics = jax.jit(update)(shared, theirs, BATCH, KEY)
    jax.tree.map(np.testing.assert_array_equal, (ours.agent, metrics), (theirs, their_metrics))


def test_errors_of_a_chain_are_the_discounted_sums_of_what_lies_ahead():
    """Q held fixed: Δ = (I − γ P)⁻¹ |Q − BQ|, P the chain 0 → 1 → 2 → 3 → 1, and 3 → end half the
    time; tables are networks of states that are units."""
    td_error, discount = np.array([0.3, 1.0, 0.0, 2.0]), 0.8
    start, following, end = np.array(
        [(0, 1, 0), (1, 2, 0), (2, 3, 0), (3, 1, 0), (3, 0, 1), (0, 1, 0), (1, 2, 0), (2, 3, 0)]
    ).T
    matrix = np.zeros((4, 4))
    for i, j, d in zip(start, following, end, strict=True):
        matrix[i, j] += (1 - d) / (start == i).sum()
    expected = np.linalg.solve(np.eye(4) - discount * matrix, td_error)
    eye, action = jnp.eye(4), jnp.zeros((8, 1))
    batch = jax.tree.map(lambda x: x[:8], DATASET.transitions)._replace(
        observation=eye[start],
        next_observation=eye[following],
        action=action,
        terminal=jnp.asarray(end, jnp.float32),
    )
    config = dataclasses.replace(
        CONFIG,
        **{"num_critics": 2, "discount": discount, "error_network": MLP((32, 32))},
        **{"critic_learning_rate": 3e-3, "target_update_rate": 0.05},
    )
    spec = dataclasses.replace(DATASET.spec, observation_size=4, action_size=1)
    errors = jnp.tile(jnp.asarray(td_error, jnp.float32)[start][None], (2, 1))
    network = config.error_network

    @jax.jit
    def learnt(state):
        def update(state, _):
            ahead = critic_values(network, state.target_network, batch.next_observation, action)
            return step(config, state, batch, td_error=errors, next_error=ahead)[0], None

        return jax.lax.scan(update, state, length=1500)[0]

    state = learnt(distribution_correction.init(config, spec, KEY))
    found = critic_values(network, state.network.params, eye, jnp.zeros((4, 1)))
    np.testing.assert_allclose(found, np.tile(expected, (2, 1)), rtol=0.03)
    np.testing.assert_allclose(state.temperature, expected[start].mean(), rtol=0.05)


def test_the_error_ahead_is_of_the_policys_action_under_the_target():
    policy = gaussian_policy(MLP((8,)), AGENT.actor.params, BATCH.next_observation)
    action = policy.sample_and_log_prob(KEY)[0]
    expected = numpy_critics(ERROR.target_network, BATCH.next_observation, action)
    actual = next_error(CONFIG, ERROR, BATCH, policy, KEY)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_seeds_in_one_dispatch_equal_a_separate_run():
    keys = jax.random.split(KEY, 2)

    def trained(key):
        state = init(SAC, CONFIG, DATASET.spec, key)
        return learn(SAC, CONFIG, DATASET, state, key, num_steps=2)[0]

    together, alone = trained(keys), trained(keys[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[1], rtol=2e-4, atol=2e-5), alone, together
    )
    assert alone.step == 2
