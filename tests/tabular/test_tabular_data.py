"""Data from finite MDPs: frequencies, and what is learnt from them against exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from tests import finite

CLOSE = {"rtol": 0, "atol": 1e-9}
MAP = """
S.#.
..X.
#..G
"""


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def sampled():
    """A random MDP, its behaviour, and what 3000 steps in episodes of at most 7 show of it."""
    with jax.enable_x64(True):
        mdp, behavior = finite.random_mdp(0), finite.random_policy(1)
        rows = tabular.sample_episodes(
            mdp, behavior, jax.random.key(0), num=3000, max_episode_steps=7
        )
        return mdp, behavior, jax.tree.map(np.asarray, rows)


def on_device(rows):
    return jax.tree.map(jnp.asarray, rows)


def empirical(mdp, rows, unseen_value=0.0):
    return tabular.empirical_mdp(
        on_device(rows),
        num_actions=mdp.num_actions,
        initial=mdp.initial,
        discount=mdp.discount,
        unseen_value=unseen_value,
    )


def test_episodes_are_chains_that_end_or_run_out_of_time(sampled):
    _, _, rows = sampled
    assert rows.last[-1] and (rows.last | ~rows.terminal).all()
    inside = ~rows.last[:-1]
    np.testing.assert_array_equal(rows.next_state[:-1][inside], rows.state[1:][inside])
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], rows.last])))
    assert lengths.max() == 7
    timed_out = (rows.last & ~rows.terminal)[:-1]
    ends = np.flatnonzero(rows.last)[:-1]
    np.testing.assert_array_equal(lengths[:-1][timed_out[ends]], 7)


def test_frequencies_are_the_mdps(sampled):
    mdp, behavior, rows = sampled
    first = np.concatenate([[True], rows.last[:-1]])
    starts = np.bincount(rows.state[first], minlength=finite.NUM_STATES) / first.sum()
    np.testing.assert_allclose(starts, mdp.initial, atol=0.05)
    count = tabular.count_pairs(on_device(rows), finite.NUM_STATES, finite.NUM_ACTIONS)
    np.testing.assert_allclose(tabular.behavior_policy(count), behavior, atol=0.05)
    np.testing.assert_array_equal(rows.reward, np.asarray(mdp.reward)[rows.state, rows.action])
    found = empirical(mdp, rows)
    seen = np.asarray(count) > 100
    for name in ("transition", "terminal"):
        np.testing.assert_allclose(
            getattr(found, name)[seen], getattr(mdp, name)[seen], atol=0.15, err_msg=name
        )


def test_counts_by_hand():
    rows = tabular.Transitions(
        state=jnp.array([0, 0, 0, 0, 1]),
        action=jnp.array([1, 1, 1, 0, 0]),
        reward=jnp.array([1.0, 2.0, 6.0, 5.0, 7.0]),
        next_state=jnp.array([1, 1, 0, 1, 0]),
        terminal=jnp.array([False, False, False, True, False]),
        last=jnp.array([False] * 5),
    )
    count = tabular.count_pairs(rows, 3, 2)
    np.testing.assert_array_equal(count, [[1, 3], [1, 0], [0, 0]])
    np.testing.assert_array_equal(
        tabular.behavior_policy(count), [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]
    )
    np.testing.assert_allclose(tabular.behavior_policy(count, 0.5)[0], [1.5 / 5, 3.5 / 5])
    mdp = tabular.check(
        tabular.empirical_mdp(
            rows, num_actions=2, initial=jnp.ones(3) / 3, discount=0.9, unseen_value=4.0
        )
    )
    np.testing.assert_array_equal(mdp.reward, [[5.0, 3.0], [7.0, 4.0], [4.0, 4.0]])
    np.testing.assert_array_equal(mdp.terminal, [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(mdp.transition[0, 1], [1 / 3, 2 / 3, 0.0])
    np.testing.assert_array_equal(tabular.q_iteration(mdp)[2], 4.0)


def test_independent_pairs_follow_their_distribution():
    mdp, weight = finite.random_mdp(0), finite.random_policy(3)
    rows = tabular.sample_pairs(mdp, weight, jax.random.key(1), num=4000)
    count = tabular.count_pairs(rows, finite.NUM_STATES, finite.NUM_ACTIONS)
    np.testing.assert_allclose(count / 4000, weight / weight.sum(), atol=0.03)
    ending = np.zeros(count.shape)
    np.add.at(ending, (np.asarray(rows.state), np.asarray(rows.action)), np.asarray(rows.terminal))
    np.testing.assert_allclose(ending.sum(), (count * mdp.terminal).sum(), rtol=0.1)


def test_fitted_evaluation_is_exact_on_the_data_and_errs_as_they_do(sampled):
    """FQE on transitions, the empirical MDP's linear system and sums of its rewards agree; the true
    values are as far as 3000 transitions leave them."""
    mdp, _, rows = sampled
    policy = finite.random_policy(7)
    fitted = tabular.fitted_q_evaluation(
        on_device(rows), policy, jnp.zeros_like(mdp.reward), discount=0.8, num_iterations=150
    )
    found = empirical(mdp, rows)
    np.testing.assert_allclose(fitted, tabular.q_value(found, policy), **CLOSE)
    np.testing.assert_allclose(fitted, finite.evaluated(found, policy), **CLOSE)
    error = np.abs(fitted - tabular.q_value(mdp, policy)).max()
    assert 1e-3 < error < 0.3


def test_uniform_data_of_everything_give_the_optimum():
    """Where transitions are certain the data's MDP is the true one, and Q-iteration finds Q*."""
    mdp = tabular.grid_world(MAP, discount=0.8).mdp
    rows = tabular.sample_pairs(mdp, jnp.ones_like(mdp.reward), jax.random.key(0), num=2000)
    assert (tabular.count_pairs(rows, *mdp.reward.shape) > 0).all()
    start = jnp.zeros_like(mdp.reward)
    fitted = tabular.fitted_q_iteration(rows, start, discount=0.8, num_iterations=150)
    best = tabular.q_iteration(mdp)
    np.testing.assert_allclose(fitted, best, **CLOSE)
    np.testing.assert_allclose(
        tabular.state_value(mdp, tabular.greedy_policy(fitted)), best.max(1), **CLOSE
    )
    learnt = tabular.q_learning(rows, start, discount=0.8, learning_rate=1.0)
    np.testing.assert_allclose(learnt, best, atol=1e-6)


def test_uniform_data_of_a_random_mdp_give_a_policy_that_is_nearly_optimal():
    mdp = finite.random_mdp(4)
    rows = tabular.sample_pairs(mdp, jnp.ones_like(mdp.reward), jax.random.key(0), num=5000)
    start = jnp.zeros_like(mdp.reward)
    fitted = tabular.fitted_q_iteration(rows, start, discount=0.8, num_iterations=150)
    np.testing.assert_allclose(fitted, tabular.q_iteration(empirical(mdp, rows)), **CLOSE)
    value = tabular.state_value(mdp, tabular.greedy_policy(fitted))
    np.testing.assert_allclose(value, tabular.value_iteration(mdp), atol=0.05)


def test_slow_q_learning_is_near_the_optimum():
    mdp = finite.random_mdp(4)
    rows = tabular.sample_pairs(mdp, jnp.ones_like(mdp.reward), jax.random.key(0), num=20_000)
    learnt = tabular.q_learning(rows, jnp.zeros_like(mdp.reward), discount=0.8, learning_rate=0.02)
    np.testing.assert_allclose(learnt, tabular.q_iteration(mdp), atol=0.4)


def test_an_unseen_action_with_a_high_first_value_fools_only_the_naive_maximum():
    mdp = tabular.grid_world(MAP, discount=0.8).mdp
    seen = jnp.ones(mdp.reward.shape, bool).at[0, 2].set(False)
    rows = tabular.sample_pairs(mdp, seen.astype(float), jax.random.key(0), num=2000)
    optimistic = jnp.full_like(mdp.reward, 10.0)
    settings = {"discount": 0.8, "num_iterations": 150}
    naive = tabular.fitted_q_iteration(rows, optimistic, **settings)
    held = tabular.fitted_q_iteration(rows, optimistic, allowed=seen, **settings)
    assert naive[0, 2] == held[0, 2] == 10.0  # no data say otherwise
    assert tabular.greedy_policy(naive)[0, 2] == 1.0
    assert tabular.greedy_policy(held, seen)[0, 2] == 0.0
    expected = tabular.q_iteration(mdp, seen)
    np.testing.assert_allclose(held[seen], expected[seen], **CLOSE)
    best = tabular.q_iteration(mdp)
    assert (naive > best + 1).any(1)[:2].all()  # the error spreads to the state beside it
    online = tabular.q_learning(rows, optimistic, discount=0.8, learning_rate=1.0, allowed=seen)
    assert np.abs(online[seen] - expected[seen]).max() < 1e-6
    # The same by the model of the data.
    model = empirical(mdp, rows, unseen_value=10.0)
    np.testing.assert_allclose(tabular.q_iteration(model), naive, **CLOSE)
    np.testing.assert_allclose(tabular.q_iteration(model, seen), held, **CLOSE)
