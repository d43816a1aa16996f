"""Diagnostics against closed forms, for an algorithm whose actions and values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, stack
from offrl_jax.data import dataset_from_arrays
from offrl_jax.evaluation.diagnostics import clone_behavior, diagnose, states
from offrl_jax.networks.modules import MLP
from tests.toy import RuleConfig, rule

WEIGHT = np.array([1.0, 2.0, 3.0])  # of three critics
DATA_ACTION = np.array([0.2, -0.4])
KEY = jax.random.key(3)


def act(config, state, observation, key):
    assert key is None
    second = jnp.full(observation.shape[0], -0.5)
    return jnp.stack([jnp.full(observation.shape[0], config.gain), second], 1)


def q_values(config, state, observation, action):
    """w_k |a|² + offset · a₁."""
    square = jnp.sum(jnp.square(action), 1)
    return jnp.outer(jnp.asarray(WEIGHT, jnp.float32), square) + state.offset * action[None, :, 0]


def seeded(config, spec, key):
    return rule.init(config, spec, key)._replace(offset=jax.random.uniform(key))


known = rule._replace(init=seeded, act=act, q_values=q_values)


@pytest.fixture(scope="module")
def dataset():
    n = 64
    action = np.tile(DATA_ACTION, (n, 1))
    return dataset_from_arrays(
        np.ones((n, 2)), action, np.zeros(n), np.ones(n), next_observation=None
    )


@pytest.fixture(scope="module")
def normal():
    """One state, a = tanh u, u ~ N((0.5, −0.3), 0.4²)."""
    n = 4096
    pre_tanh = np.array([0.5, -0.3]) + 0.4 * np.random.default_rng(0).normal(size=(n, 2))
    return dataset_from_arrays(
        np.ones((n, 2)), np.tanh(pre_tanh), np.zeros(n), np.ones(n), next_observation=None
    )


@pytest.fixture(scope="module")
def behavior(normal):
    return clone_behavior(normal)


def diagnosed(dataset, behavior, config, keys, algorithm=known):
    state = init(algorithm, config, dataset.spec, keys)
    found = diagnose(algorithm, config, states(dataset), state, behavior)
    return {name.removeprefix("diagnostics/"): np.asarray(v) for name, v in found.items()}, state


@pytest.mark.parametrize(("gain", "saturated"), [(0.5, 0), (-0.995, 0.5), (0.98, 0)])
def test_gaps_spread_and_saturation(dataset, behavior, gain, saturated):
    found, state = diagnosed(dataset, behavior, RuleConfig(gain=gain), jax.random.key(1))
    offset, of_policy, of_data = float(state.offset), gain**2 + 0.25, 0.2
    expected = 2 * (of_policy - of_data) + offset * (gain - 0.2)
    assert found["policy_gap"] == pytest.approx(expected, rel=1e-4)
    assert found["ensemble_spread"] == pytest.approx(np.std(WEIGHT) * of_policy, rel=1e-4)
    assert found["action_saturation"] == saturated
    # Uniform in [−1, 1]²: E|a|² = 2/3, E a₁ = 0, from 1024 draws.
    assert found["random_gap"] == pytest.approx(2 * (2 / 3 - of_data) - offset * 0.2, abs=0.12)


def test_states_and_actions_belong_together():
    """Q = s · a with the data's a = s: a policy of a = 0 loses E s², which shuffled rows would
    not."""
    s = np.random.default_rng(0).uniform(-1, 1, 500)
    rows = np.stack([s, s], 1)
    dataset = dataset_from_arrays(rows, rows, np.zeros(500), np.ones(500), next_observation=None)
    algorithm = known._replace(
        act=lambda config, state, o, key: jnp.zeros((o.shape[0], 2)),
        q_values=lambda config, state, o, a: (o * a)[None, :, 0],
    )
    behavior = clone_behavior(dataset)
    found, _ = diagnosed(dataset, behavior, RuleConfig(), KEY, algorithm=algorithm)
    assert found["policy_gap"] == pytest.approx(-1 / 3, abs=0.05)
    assert found["random_gap"] == pytest.approx(-1 / 3, abs=0.08)
    assert found["ensemble_spread"] == 0


def test_likelihoods_against_a_known_behaviour(normal, behavior):
    """At the data's mode, in the data, and far from it."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(200_000, 2))
    pre_tanh = np.array([0.5, -0.3]) + 0.4 * noise
    density = (
        -0.5 * noise**2 - np.log(0.4 * np.sqrt(2 * np.pi)) - np.log1p(-(np.tanh(pre_tanh) ** 2))
    )
    nll = {}
    for name, u in {"mode": (0.5, -0.3), "far": (-1.5, -0.3)}.items():
        algorithm = known._replace(
            act=lambda config, state, o, key, u=u: jnp.tile(jnp.tanh(jnp.array([u])), (len(o), 1))
        )
        found, _ = diagnosed(normal, behavior, RuleConfig(), KEY, algorithm=algorithm)
        nll[name] = found["behavior_nll"]
    assert found["data_nll"] == pytest.approx(-density.sum(1).mean(), abs=0.15)
    assert nll["mode"] < found["data_nll"] < nll["far"]
    at_mode = 2 * np.log(0.4 * np.sqrt(2 * np.pi)) + np.log1p(-(np.tanh([0.5, -0.3]) ** 2)).sum()
    assert nll["mode"] == pytest.approx(at_mode, abs=0.2)
    assert nll["far"] == pytest.approx(
        at_mode + 12.5 + np.log1p(-(np.tanh(-1.5) ** 2)) - np.log1p(-(np.tanh(0.5) ** 2)), rel=0.2
    )


def test_without_a_critic_of_actions_there_are_no_gaps(dataset, behavior):
    found, _ = diagnosed(
        dataset, behavior, RuleConfig(), KEY, algorithm=known._replace(q_values=None)
    )
    assert set(found) == {"action_saturation", "behavior_nll", "data_nll"}


def test_runs_together_equal_runs_alone(dataset, behavior):
    configs = [RuleConfig(gain=0.5), RuleConfig(gain=-0.995)]
    keys = jax.random.split(jax.random.key(0), (2, 3))
    together, _ = diagnosed(dataset, behavior, stack(configs), keys)
    for h, config in enumerate(configs):
        seeds, _ = diagnosed(dataset, behavior, config, keys[h])
        for name, value in seeds.items():
            assert value.shape == (3,) and together[name].shape == (2, 3)
            np.testing.assert_allclose(together[name][h], value, rtol=1e-5)
        alone, _ = diagnosed(dataset, behavior, config, keys[h, 1])
        for name, value in alone.items():
            assert value.shape == ()
            np.testing.assert_allclose(seeds[name][1], value, rtol=1e-5)


def test_the_ruler_is_the_same_at_every_call(normal, behavior):
    jax.tree.map(np.testing.assert_array_equal, behavior, clone_behavior(normal))


def test_one_trace_serves_all_chunks_and_settings(dataset, behavior):
    traces = []

    def counted(*args):
        traces.append(1)
        return act(*args)

    algorithm = known._replace(act=counted)
    for gain in (0.5, 0.6):
        diagnosed(dataset, behavior, RuleConfig(gain=gain), KEY, algorithm=algorithm)
    assert len(traces) == 1


def test_discrete_actions_are_held_against_a_categorical_clone():
    """Half of the data take the first of two actions, half the second; the policy one only."""
    n = 256
    dataset = dataset_from_arrays(
        *(np.ones((n, 2)), np.arange(n) % 2, np.zeros(n), np.ones(n)), num_actions=2
    )
    dqn = ALGORITHMS["dqn"]
    config = dqn.Config(critic_network=MLP((8,)))
    state = init(dqn, config, dataset.spec, KEY)
    found = diagnose(dqn, config, states(dataset), state, clone_behavior(dataset))
    assert found["diagnostics/favourite_share"] == 1.0
    assert "diagnostics/action_saturation" not in found
    for name in ("behavior_nll", "data_nll"):
        np.testing.assert_allclose(found[f"diagnostics/{name}"], np.log(2), atol=0.02)
    q = dqn.q_values(config, state, jnp.ones((2, 2)), jnp.eye(2))[0]
    gap = float(q.max() - q.mean())  # to the data, which have both as often
    np.testing.assert_allclose(found["diagnostics/policy_gap"], gap, rtol=0.1)
