"""Any critic as an acting rule: grids, and where such an algorithm goes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init
from offrl_jax.algorithms.common.cross_entropy_policy import by_cross_entropy
from offrl_jax.evaluation import fqe
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.load import Trained
from offrl_jax.types import InputError
from tests.arrays import random_dataset
from tests.networks.test_modules import filled
from tests.toy import rule, toy_dataset

KEY = jax.random.key(0)
OBSERVATION = jax.random.normal(KEY, (9, 5))
GRID = np.linspace(-1, 1, 101)
SMALL = {"actor_network": MLP((8,)), "critic_network": MLP((8,)), "batch_size": 8}


def grid_of(action_size):
    return jnp.asarray(np.stack(np.meshgrid(*[GRID] * action_size), -1).reshape(-1, action_size))


def started(name, dataset):
    """An algorithm, its config, and a state whose critics are random."""
    algorithm = ALGORITHMS[name]
    config = algorithm.Config(**SMALL)
    state = init(algorithm, config, dataset.spec, KEY)
    if name == "cql":
        return algorithm, config, state._replace(agent=with_random_critics(state.agent))
    return algorithm, config, with_random_critics(state)


def with_random_critics(state):
    return state._replace(critic=state.critic._replace(params=filled(state.critic.params)))


PEAKS = jnp.array([0.2, 0.6])


def two_parabolas(config, state, observation, action):
    """Q_k = −(a − p_k)² − k/10, in every dimension."""
    peak = PEAKS.reshape(-1, *(1,) * action.ndim)
    level = 0.1 * jnp.arange(2.0).reshape(-1, *(1,) * (action.ndim - 1))
    return -jnp.sum(jnp.square(action[None] - peak), axis=-1) - level


@pytest.mark.parametrize(
    ("over_critics", "best", "found"),
    [("min", 0.4625, -2 * 0.1375**2 - 0.1), ("mean", 0.4, -2 * 0.2**2 - 0.05)],
)
def test_what_is_maximised_is_the_least_or_the_mean_critic(over_critics, best, found):
    """Two dimensions. The parabolas cross where 2 (a − 0.2)² = 2 (a − 0.6)² + 0.1, at a = 0.4625,
    between their peaks; the mean is greatest at 0.4."""
    numbers = {"num_samples": 256, "num_elites": 16, "num_rounds": 8}
    by_critic = by_cross_entropy(
        rule._replace(q_values=two_parabolas), over_critics=over_critics, **numbers
    )
    config, observation = rule.Config(), jnp.zeros((5, 2))
    state = init(rule, config, toy_dataset().spec, KEY)
    for key in (None, KEY):
        action = jax.jit(by_critic.act)(config, state, observation, key)
        reached = two_parabolas(config, state, observation, action)
        reduced = {"min": reached.min(0), "mean": reached.mean(0)}[over_critics]
        np.testing.assert_allclose(reduced, found, atol=2e-3)
        np.testing.assert_allclose(action.mean(1), best, atol=0.02)
    value = jax.jit(by_critic.value)(config, state, observation)
    assert value.shape == (5,)
    np.testing.assert_allclose(value, found, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "action_size", "over_critics"), [("iql", 1, "min"), ("cql", 2, "mean")]
)
def test_on_any_critic_it_comes_near_the_best_of_a_grid(name, action_size, over_critics):
    dataset = random_dataset(action_size=action_size)
    algorithm, config, state = started(name, dataset)
    by_critic = by_cross_entropy(
        algorithm, over_critics=over_critics, num_samples=256, num_elites=16, num_rounds=4
    )
    reduce = {"min": np.min, "mean": np.mean}[over_critics]
    grid = jnp.broadcast_to(grid_of(action_size)[None], (9, 101**action_size, action_size))
    on_grid = reduce(algorithm.q_values(config, state, OBSERVATION, grid), axis=0)  # (B, N)
    action = jax.jit(by_critic.act)(config, state, OBSERVATION, None)
    q = reduce(algorithm.q_values(config, state, OBSERVATION, action), axis=0)
    spread = on_grid.max(1) - on_grid.min(1)
    assert (spread > 0.1).all() and (np.abs(action) <= 1).all()
    # Between local maxima it may take the second best.
    assert np.median((on_grid.max(1) - q) / spread) < 0.01
    assert ((on_grid.max(1) - q) / spread < 0.3).all()
    np.testing.assert_allclose(by_critic.value(config, state, OBSERVATION), q, rtol=1e-4, atol=1e-5)


def test_what_has_no_critic_of_actions_is_refused_as_are_other_reductions():
    with pytest.raises(InputError, match="bc has no critic of actions"):
        by_cross_entropy(ALGORITHMS["bc"])
    with pytest.raises(InputError, match="over_critics='max' is not one of min, mean"):
        by_cross_entropy(ALGORITHMS["iql"], over_critics="max")
    with pytest.raises(InputError, match="num_elites=65"):
        by_cross_entropy(ALGORITHMS["iql"], num_elites=65)


def test_it_is_one_function_so_that_it_is_compiled_once():
    assert by_cross_entropy(ALGORITHMS["iql"]) is by_cross_entropy(ALGORITHMS["iql"])
    assert by_cross_entropy(ALGORITHMS["iql"]).name not in ALGORITHMS


def test_evaluator_and_fitted_q_evaluation_take_it():
    """In the toy's environment, which pays the first action, −2 to 2, of 2, 3 and 4 steps."""
    dataset = toy_dataset()
    algorithm, config, state = started("iql", dataset)
    by_critic = by_cross_entropy(algorithm._replace(q_values=first_action), num_rounds=4)
    evaluator = Evaluator(by_critic, dataset, (), 3)
    rollouts = evaluator(config, state)
    evaluator.close()
    np.testing.assert_allclose(rollouts.episode_return, [4.0, 6.0, 8.0], atol=1e-3)
    np.testing.assert_allclose(rollouts.learned_value, 1.0, atol=1e-3)

    run = Trained(
        *(Path("run"), 1, (0,), by_critic, config),
        *(jax.tree.map(lambda x: x[None], state), dataset.spec, dataset.preprocessing),
        *(0.99, None, None),
    )
    transitions, starts = dataset.transitions, fqe.initial_observations(dataset)
    actions = [run.actions(np.asarray(s)) for s in (transitions.next_observation, starts)]
    np.testing.assert_allclose(actions[0][..., 0], 1.0, atol=1e-3)
    settings = fqe.FQEConfig(hidden_sizes=(8,), num_steps=2, num_networks=1, batch_size=8)
    estimate = fqe.fit(settings, transitions, starts, *actions, KEY)
    assert np.isfinite(np.asarray(estimate[0])).all()


def first_action(config, state, observation, action):
    return jnp.stack([action[..., 0]] * 2)


def test_discrete_actions_are_not_searched():
    dqn = ALGORITHMS["dqn"]
    dataset = random_dataset(discrete=True)
    state = init(dqn, dqn.Config(), dataset.spec, jax.random.key(0))
    with pytest.raises(InputError, match="dqn's are discrete"):
        by_cross_entropy(dqn).act(dqn.Config(), state, dataset.transitions.observation[:2], None)
