"""Fitted Q evaluation against linear solves of the data's own MDP."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.data import dataset_from_arrays
from offrl_jax.evaluation.fqe import FQEConfig, fit, initial_observations, reachable
from offrl_jax.types import InputError

NUM_STATES, NUM_POLICIES, DISCOUNT = 6, 4, 0.8
CONFIG = FQEConfig(
    discount=DISCOUNT,
    hidden_sizes=(64,),
    learning_rate=3e-3,
    target_update_rate=0.05,
    num_steps=2500,
    num_networks=1,
)
ACTIONS = np.array([-1.0, 1.0])


@pytest.fixture(scope="module")
def mdp():
    """A random MDP's data, with true ends and time-outs, and random deterministic policies."""
    rng = np.random.default_rng(0)
    next_state = rng.dirichlet(np.full(NUM_STATES, 0.5), (NUM_STATES, 2))
    reward = rng.normal(size=(NUM_STATES, 2)) * 1000
    rows, state, time = [], 0, 0
    for _ in range(3000):
        action = rng.integers(2)
        following = rng.choice(NUM_STATES, p=next_state[state, action])
        is_terminal, is_cut = following == NUM_STATES - 1 and rng.random() < 0.5, time == 9
        rows.append((state, action, reward[state, action], is_terminal, is_cut, following))
        state, time = (rng.integers(3), 0) if is_terminal or is_cut else (following, time + 1)
    state, action, reward, terminal, truncation, following = map(np.array, zip(*rows, strict=True))
    dataset = dataset_from_arrays(
        np.eye(NUM_STATES)[state],
        ACTIONS[action][:, None],
        reward,
        terminal,
        timeout=truncation & ~terminal,
        next_observation=np.eye(NUM_STATES)[following],
        discount=DISCOUNT,
    )
    policies = rng.integers(0, 2, (NUM_POLICIES, NUM_STATES))
    starts = np.argmax(np.asarray(initial_observations(dataset)), axis=1)
    return dataset, policies, (state, action, reward, terminal, following), starts


def value(policy, columns):
    """V^π of the empirical MDP: Q = r̂ + γ P̂ Q(·, π)."""
    state, action, reward, terminal, following = columns
    matrix, constant = np.eye(2 * NUM_STATES), np.zeros(2 * NUM_STATES)
    pair, next_pair = 2 * state + action, 2 * following + policy[following]
    count = np.bincount(pair, minlength=2 * NUM_STATES)
    np.add.at(constant, pair, reward / count[pair])
    np.add.at(matrix, (pair, next_pair), -DISCOUNT * (1 - terminal) / count[pair])
    return np.linalg.solve(matrix, constant).reshape(NUM_STATES, 2)[range(NUM_STATES), policy]


def fitted(config, dataset, policies, following, starts):
    actions = ACTIONS[policies][..., None]
    return fit(
        config,
        dataset.transitions,
        initial_observations(dataset),
        jnp.asarray(actions[:, following], jnp.float32),
        jnp.asarray(actions[:, starts], jnp.float32),
        jax.random.key(0),
    )


def test_it_meets_the_value_of_the_empirical_mdp(mdp):
    dataset, policies, columns, starts = mdp
    config = dataclasses.replace(CONFIG, num_networks=2)
    estimate = fitted(config, dataset, policies, columns[-1], starts)
    exact = np.array([value(policy, columns)[starts].mean() for policy in policies])
    assert np.ptp(exact) > 500  # far apart beside the tolerance
    np.testing.assert_allclose(estimate.score, exact, atol=0.03 * np.ptp(exact))
    assert (np.asarray(estimate.clipped) < 0.01).all()
    assert (np.asarray(estimate.spread) < 0.03 * np.ptp(exact)).all()


def test_the_same_policy_several_times_is_worth_what_it_is_alone(mdp):
    """Its network's heads start alike and take the same batches."""
    dataset, policies, columns, starts = mdp
    policies = np.repeat(policies[:1], NUM_POLICIES, axis=0)
    config = dataclasses.replace(CONFIG, num_networks=2, num_steps=50)
    together = fitted(config, dataset, policies, columns[-1], starts)
    alone = fitted(config, dataset, policies[:1], columns[-1], starts)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, np.repeat(b, NUM_POLICIES), rtol=5e-3, atol=1e-4)


@pytest.mark.slow
def test_every_policy_beside_others_is_worth_what_it_is_alone(mdp):
    """Where the network can hold them all."""
    dataset, policies, columns, starts = mdp
    together = fitted(CONFIG, dataset, policies, columns[-1], starts).score
    alone = fitted(CONFIG, dataset, policies[1:2], columns[-1], starts).score
    np.testing.assert_allclose(together[1], alone[0], atol=0.03 * np.ptp(together))


@pytest.mark.slow
def test_several_networks_are_averaged(mdp):
    dataset, policies, columns, starts = mdp
    config = dataclasses.replace(CONFIG, num_steps=50)
    one, two = (
        fitted(dataclasses.replace(config, num_networks=n), dataset, policies, columns[-1], starts)
        for n in (1, 2)
    )
    assert (one.spread == 0).all() and (two.spread > 0).all()
    apart = np.abs(np.asarray(one.score - two.score))
    assert (apart > 0).all() and np.isfinite(apart).all()


def one_state(terminal):
    """One-step episodes of rewards ½ and 3/2."""
    n = 200
    return dataset_from_arrays(
        np.ones((n, 1)),
        np.zeros((n, 1)),
        np.where(np.arange(n) % 2, 0.5, 1.5),
        np.full(n, terminal),
        timeout=np.full(n, not terminal),
        next_observation=np.ones((n, 1)),
        discount=DISCOUNT,
    )


@pytest.mark.parametrize(("terminal", "exact"), [(False, 1 / (1 - DISCOUNT)), (True, 1.0)])
def test_time_outs_bootstrap_and_true_ends_do_not(terminal, exact):
    dataset = one_state(terminal)
    actions = jnp.zeros((1, 200, 1))
    config = dataclasses.replace(CONFIG, num_steps=2000)
    inputs = dataset.transitions, initial_observations(dataset), actions, actions
    estimate = fit(config, *inputs, jax.random.key(0))
    np.testing.assert_allclose(estimate.score, exact, rtol=0.02)
    # What is left is the rewards' own spread.
    np.testing.assert_allclose(estimate.bellman_error, 0.5, rtol=0.05)


@pytest.mark.parametrize(
    ("reward_range", "bound"),
    [(None, 10.0), pytest.param((0.0, 2.0), 20.0, marks=pytest.mark.slow)],
)
def test_targets_stay_within_what_rewards_can_add_up_to(reward_range, bound):
    """Where the next state lies twice as far out, so that Q extrapolates itself: w ← 2 γ w."""
    n = 200
    dataset = dataset_from_arrays(
        *(np.ones((n, 1)), np.zeros((n, 1)), np.ones(n), np.zeros(n)),
        timeout=np.ones(n),
        next_observation=np.full((n, 1), 2.0),
    )
    actions = jnp.zeros((1, n, 1))
    config = dataclasses.replace(CONFIG, discount=0.9, num_steps=3000)
    inputs = dataset.transitions, initial_observations(dataset), actions, actions
    estimate = fit(config, *inputs, jax.random.key(0), reward_range=reward_range)
    np.testing.assert_allclose(estimate.score, bound, rtol=0.05)  # greatest reward / (1 − γ)
    assert estimate.clipped[0] > 0.9


@pytest.mark.parametrize(
    ("reward", "ends"),
    [
        ([0.0, 2.0], (0, 10)),
        ([-2.0, -1.0], (-10, -1)),
        ([1.0, 2.0], (1, 10)),
        ([-1.0, 1.0], (-5, 5)),
    ],
)
def test_the_reachable_range_is_that_of_episodes_of_any_length(reward, ends):
    np.testing.assert_allclose(reachable(jnp.array(reward), 0.8), ends, rtol=1e-5)


def test_initial_observations_are_the_first_of_every_episode():
    dataset = dataset_from_arrays(
        np.arange(6.0)[:, None],
        np.zeros((6, 1)),
        np.zeros(6),
        np.array([0, 0, 1, 0, 0, 0]),
        timeout=np.array([0, 0, 0, 0, 1, 0]),
        next_observation=np.zeros((6, 1)),
    )
    np.testing.assert_array_equal(np.asarray(initial_observations(dataset))[:, 0], [0, 3, 5])


def test_actions_that_do_not_fit_are_refused():
    dataset = one_state(True)
    actions = jnp.zeros((2, 200, 1))
    with pytest.raises(InputError, match=r"\(2, 200, 1\) and \(2, 200, 1\) would"):
        fit(
            CONFIG,
            dataset.transitions,
            initial_observations(dataset),
            actions[:, :-1],
            actions,
            jax.random.key(0),
        )


@pytest.mark.parametrize("reward_range", [(0.6, 2.0), (0.0, 1.4), (2.0, 0.0), (np.nan, 2.0)])
def test_a_range_that_leaves_out_rewards_is_refused(reward_range):
    dataset = one_state(True)
    inputs = dataset.transitions, initial_observations(dataset), *[jnp.zeros((1, 200, 1))] * 2
    with pytest.raises(InputError, match=r"which lie between 0\.5 and 1\.5"):
        fit(CONFIG, *inputs, jax.random.key(0), reward_range=reward_range)
