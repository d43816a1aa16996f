"""What the penalties do to tables: fixed points and bounds against closed forms.

The tables go through the learner's own `critic_loss`, whose networks are replaced by a look-up of
one-hot states and actions. Behaviour β, policy π and μ are multiples of 1/10, so that ten rows or
ten candidates a state have exactly these frequencies.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.algorithms.common.soft_actor_critic import Context
from offrl_jax.algorithms.cql import (
    Candidates,
    CQLConfig,
    CQLContext,
    candidate_actions,
    critic_loss,
    penalty,
)
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.types import Transition

module = importlib.import_module("offrl_jax.algorithms.cql")  # the package has `cql` itself

NUM_STATES, NUM_ACTIONS, DISCOUNT, ALPHA = 3, 3, 0.8, 0.3
BEHAVIOR = np.array([[7, 2, 1], [3, 3, 4], [1, 8, 1]])  # tenths
POLICY = np.array([[1, 3, 6], [5, 4, 1], [2, 2, 6]])
OTHER = np.array([[2, 2, 6], [1, 1, 8], [4, 5, 1]])
C = np.array([1.0, -2.0, 0.5])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    def look_up(config, table, observation, action):
        return jnp.einsum("esa,bs,bma->ebm", table, observation, action)

    monkeypatch.setattr(module, "q_values", look_up)


def tenths(counts):
    """Actions 0 to 2, ten a state, in the proportion of `counts`."""
    return np.stack([np.repeat(np.arange(NUM_ACTIONS), row) for row in counts])


def bellman_halved(table, target, behavior, candidates, config):
    """½ Σ_s E_β (Q − y)² + ½ w · penalty: half of the learner's loss on ten rows a state."""
    num_states = len(behavior)
    state = np.repeat(np.arange(num_states), 10)
    action = tenths(behavior).ravel()
    rows = np.arange(10 * num_states)
    unused = jnp.zeros(len(rows))
    observation = jnp.eye(num_states)[state]
    batch = Transition(
        observation=observation,
        action=jnp.eye(NUM_ACTIONS)[action],
        reward=unused,
        next_observation=observation,
        terminal=unused,
        next_action=jnp.eye(NUM_ACTIONS)[action],
        next_action_valid=unused,
        return_to_go=unused,
    )
    drawn = jnp.eye(NUM_ACTIONS)[np.asarray(candidates)[state]]
    seen = Candidates(drawn, jnp.zeros(drawn.shape[:2]))
    context = CQLContext(batch, target[state, action], seen, None)
    loss, _ = critic_loss(config, table[None], context)
    return loss / 2 * num_states


def minimiser(target, behavior, candidates, config, num_steps):
    """Newton's method on the loss; its first step is exact where the loss is quadratic."""

    @jax.jit
    def step(flat, target):
        def objective(flat):
            table = flat.reshape(target.shape)
            return bellman_halved(table, target, behavior, candidates, config)

        gradient, hessian = jax.grad(objective)(flat), jax.hessian(objective)(flat)
        return flat - jnp.linalg.solve(hessian, gradient)

    def solve(target):
        flat = target.ravel()
        for _ in range(num_steps):
            flat = step(flat, target)
        return flat.reshape(target.shape)

    return solve


class MDP:
    """Random transitions and rewards, and what π is worth there."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.reward = rng.normal(size=(NUM_STATES, NUM_ACTIONS))
        self.transition = rng.dirichlet(np.ones(NUM_STATES), (NUM_STATES, NUM_ACTIONS))
        self.policy = POLICY / 10
        # (s, a) -> (s', a') and s -> s' under π
        pairs = np.einsum("xay,yb->xayb", self.transition, self.policy)
        size = NUM_STATES * NUM_ACTIONS
        self.of_pairs = np.linalg.inv(np.eye(size) - DISCOUNT * pairs.reshape(size, size))
        states = np.einsum("xa,xay->xy", self.policy, self.transition)
        self.of_states = np.linalg.inv(np.eye(NUM_STATES) - DISCOUNT * states)
        self.q = (self.of_pairs @ self.reward.ravel()).reshape(self.reward.shape)

    def discounted_sum(self, table):
        """(I − γ P^π)^{-1} of a table (S, A)."""
        return (self.of_pairs @ table.ravel()).reshape(table.shape)

    def backup(self, q):
        """B^π Q = R + γ P E_π Q."""
        return self.reward + DISCOUNT * self.transition @ (self.policy * q).sum(1)


def fixed_point(mdp, variant, pushed):
    config = CQLConfig(variant=variant, conservative_weight=2 * ALPHA, num_critics=1)
    solve = minimiser(mdp.reward, BEHAVIOR, tenths(pushed), config, 1)
    q = np.zeros_like(mdp.reward)
    for _ in range(150):  # 0.8^150 = 3e-15
        q = np.asarray(solve(jnp.asarray(mdp.backup(q))))
    return q


@pytest.mark.parametrize("seed", [0, 1])
def test_eq_1_is_a_lower_bound_at_every_action(seed):
    """Q̂ = Q^π − α (I − γ P^π)^{-1} [μ / β]."""
    mdp = MDP(seed)
    q = fixed_point(mdp, "v1", OTHER)
    np.testing.assert_allclose(q, mdp.q - ALPHA * mdp.discounted_sum(OTHER / BEHAVIOR), atol=1e-9)
    assert (q < mdp.q).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_eq_2_is_a_lower_bound_of_the_value(seed):
    """Q̂ = Q^π − α (I − γ P^π)^{-1} [μ / β − 1], and for μ = π
    V̂ = V^π − α (I − γ P_π)^{-1} χ²(π‖β)."""
    mdp = MDP(seed)
    for pushed in (OTHER, POLICY):
        q = fixed_point(mdp, "v2", pushed)
        expected = mdp.q - ALPHA * mdp.discounted_sum(pushed / BEHAVIOR - 1)
        np.testing.assert_allclose(q, expected, atol=1e-9)
    behavior = BEHAVIOR / 10
    chi_squared = ((mdp.policy - behavior) ** 2 / behavior).sum(1)
    value, learnt = ((mdp.policy * table).sum(1) for table in (mdp.q, q))
    np.testing.assert_allclose(learnt, value - ALPHA * mdp.of_states @ chi_squared, atol=1e-9)
    assert (learnt < value).all()


def test_eq_2_breaks_the_bound_at_single_actions_of_a_bandit():
    reward = jnp.array([[1.0, 2.0, 0.5]])
    behavior, policy = BEHAVIOR[:1], POLICY[:1]
    config = CQLConfig(variant="v2", conservative_weight=2 * ALPHA, num_critics=1)
    q = minimiser(reward, behavior, tenths(policy), config, 1)(reward)
    np.testing.assert_array_equal(q > reward, policy < behavior)
    assert (q > reward).any()
    assert (policy * (q - reward)).sum() < 0
    config = CQLConfig(variant="v1", conservative_weight=2 * ALPHA, num_critics=1)
    assert (minimiser(reward, behavior, tenths(policy), config, 1)(reward) < reward).all()


def test_cql_h_is_stationary_where_the_paper_says():
    """Q = y − α (softmax(Q) / β − 1), with every action a candidate once."""
    target = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_STATES, NUM_ACTIONS)))
    config = CQLConfig(conservative_weight=2 * ALPHA, num_critics=1)
    every = np.tile(np.arange(NUM_ACTIONS), (NUM_STATES, 1))
    q = minimiser(target, BEHAVIOR, every, config, 30)(target)
    expected = target - ALPHA * (jax.nn.softmax(q, axis=1) / (BEHAVIOR / 10) - 1)
    np.testing.assert_allclose(q, expected, atol=1e-9)


def test_cql_rho_is_stationary_where_the_paper_says():
    """Q = y − α (μ / β − 1) with μ ∝ ρ exp Q."""
    target = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_STATES, NUM_ACTIONS)))
    config = CQLConfig(variant="rho", conservative_weight=2 * ALPHA, num_critics=1)
    q = minimiser(target, BEHAVIOR, tenths(OTHER), config, 30)(target)
    pushed = OTHER * np.exp(q)
    pushed = pushed / pushed.sum(1, keepdims=True)
    np.testing.assert_allclose(q, target - ALPHA * (pushed / (BEHAVIOR / 10) - 1), atol=1e-9)


def test_the_authors_code_is_stationary_elsewhere():
    """Its candidates hold the data's action once more: μ_b ∝ (1 + 1[a = a_b]) exp Q for row b."""
    target = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_STATES, NUM_ACTIONS)))
    config = CQLConfig(variant="author_v2", conservative_weight=2 * ALPHA, num_critics=1)
    every = np.tile(np.arange(NUM_ACTIONS), (NUM_STATES, 1))
    q = np.asarray(minimiser(target, BEHAVIOR, every, config, 30)(target))
    for s in range(NUM_STATES):
        pushed = np.zeros(NUM_ACTIONS)
        for data_action in range(NUM_ACTIONS):
            row = (1.0 + (np.arange(NUM_ACTIONS) == data_action)) * np.exp(q[s])
            pushed += BEHAVIOR[s, data_action] / 10 * row / row.sum()
        expected = target[s] - ALPHA * (pushed / (BEHAVIOR[s] / 10) - 1)
        np.testing.assert_allclose(q[s], expected, atol=1e-9)


@pytest.mark.parametrize("variant", ["h", "rho", "v2", "v1"])
def test_the_weight_is_twice_alpha(variant):
    """The unhalved error with w = 2α has the minimiser of ½ error + α · penalty."""
    target = jnp.array([[1.0, 2.0, 0.5]])
    behavior, candidates = jnp.array([0.7, 0.2, 0.1]), tenths(OTHER[:1])
    config = CQLConfig(variant=variant, conservative_weight=2 * ALPHA, num_critics=1)
    q = minimiser(target, BEHAVIOR[:1], candidates, config, 30)(target)

    def paper(q):
        at_candidates = q[0, candidates[0]]
        total = {
            "h": jnp.log(jnp.sum(jnp.exp(at_candidates))),
            "rho": jnp.log(jnp.mean(jnp.exp(at_candidates))),
        }.get(variant, jnp.mean(at_candidates))
        up = 0.0 if variant == "v1" else jnp.sum(behavior * q[0])
        error = jnp.sum(behavior * jnp.square(q - target)[0])
        return 0.5 * error + ALPHA * (total - up)

    np.testing.assert_allclose(jax.grad(paper)(q), 0.0, atol=1e-9)
    assert np.abs(jax.grad(paper)(target)).max() > 1e-2


def regularised_value(mu, q, regulariser):
    return float((mu * q).sum() + regulariser(mu))


def pushed_down(config, q, log_density):
    """`penalty` where Q of the data's action is 0: a mean over states of what it lowers."""
    seen = Candidates(jnp.zeros((*log_density.shape, NUM_ACTIONS)), log_density)
    context = CQLContext(None, None, seen, None)
    return penalty(config, q, jnp.zeros(q.shape[:2]), context)


@pytest.mark.parametrize("variant", ["h", "rho"])
def test_the_gradient_is_the_mu_that_solves_the_inner_maximisation(variant):
    """max_μ E_μ Q + R(μ): R = H gives softmax Q, R = −KL(μ‖ρ) gives ρ exp Q, normalised."""
    config = CQLConfig(variant=variant)
    rho = OTHER[0] / 10
    candidates = np.arange(NUM_ACTIONS) if variant == "h" else tenths(OTHER[:1])[0]
    regulariser = {
        "h": lambda mu: -(mu * np.log(mu)).sum(),
        "rho": lambda mu: -(mu * np.log(mu / rho)).sum(),
    }[variant]
    q = jnp.array([0.3, -1.2, 0.8])

    def total(q):
        none = jnp.zeros((1, len(candidates)))
        return pushed_down(config, q[candidates][None, None], none)[0]

    value, mu = jax.value_and_grad(total)(q)
    weight = np.exp(q) * (1.0 if variant == "h" else rho)
    np.testing.assert_allclose(mu, weight / weight.sum(), atol=1e-12)
    assert float(value) == pytest.approx(
        regularised_value(np.asarray(mu), np.asarray(q), regulariser), abs=1e-12
    )
    for other in np.random.default_rng(0).dirichlet(np.ones(3), 20):
        assert regularised_value(other, np.asarray(q), regulariser) < value


def test_a_constant_q_is_worth_itself_to_rho():
    config = CQLConfig(variant="rho", penalty_temperature=0.3)
    down = pushed_down(config, jnp.full((2, 4, 7), 3.5), jnp.full((4, 7), -5.0))
    np.testing.assert_allclose(down, [3.5, 3.5], rtol=1e-12)


def linear_q(num, **settings):
    """`pushed_down` of Q = c·a on the learner's own candidates, at a single state."""
    config = CQLConfig(num_sampled_actions=num, **settings)
    policy = TanhGaussian(jnp.array([[0.3, -0.4, 0.0]]), jnp.zeros((1, 3)))
    following = TanhGaussian(jnp.array([[-0.2, 0.1, 0.5]]), jnp.full((1, 3), 0.2))
    context = Context(None, None, policy, following, jax.random.key(0))
    drawn = candidate_actions(config, context)
    q = (drawn.action @ jnp.asarray(C))[None]
    assert q.shape[-1] == (3 * num if config.variant == "h" else num)
    return float(pushed_down(config, q, drawn.log_density)[0])


def test_h_integrates_a_linear_q_over_the_box():
    """log ∫ exp(c·a) da over [−1, 1]³ is Σ_j log(2 sinh(c_j) / c_j) = 2.8774, and log M more
    without the constant."""
    exact = np.log(2 * np.sinh(C) / C).sum()
    assert exact == pytest.approx(2.8774, abs=1e-4)
    num = 20_000
    estimate = linear_q(num, subtract_log_samples=True)
    assert estimate == pytest.approx(exact, abs=0.03)
    assert linear_q(num) - estimate == pytest.approx(np.log(3 * num), abs=1e-9)


def test_the_log_samples_scale_with_the_temperature():
    """T log mean exp(x / T): constant z = Q − log μ gives itself, whatever T."""
    config = CQLConfig(subtract_log_samples=True, penalty_temperature=0.4)
    down = pushed_down(config, jnp.full((1, 2, 6), 1.5), jnp.full((2, 6), -0.5))
    np.testing.assert_allclose(down, [2.0], rtol=1e-12)


def test_uniform_rho_averages_a_linear_q_over_the_box():
    """log E exp(c·a) = Σ_j log(sinh(c_j) / c_j)."""
    estimate = linear_q(60_000, variant="rho", penalty_actions="uniform")
    assert estimate == pytest.approx(np.log(np.sinh(C) / C).sum(), abs=0.03)
