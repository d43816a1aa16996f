"""DisCor's accumulated error against repetition; what its weights do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from tests import finite

CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", [0, 1])
def test_the_accumulated_error_is_a_fixed_point_and_a_bound(seed):
    mdp, policy = finite.random_mdp(seed), finite.random_policy(seed)
    pi, rng = np.asarray(policy), np.random.default_rng(seed)
    q = rng.normal(size=pi.shape)
    backup = np.asarray(mdp.reward) + finite.DISCOUNT * finite.next_mean(mdp, (pi * q).sum(1))
    delta = tabular.accumulated_error(mdp, policy, jnp.asarray(q))
    np.testing.assert_allclose(delta, finite.evaluated(mdp, policy, abs(q - backup)), **CLOSE)
    assert (np.abs(q - finite.evaluated(mdp, policy)) <= delta + 1e-12).all()
    exact = tabular.q_value(mdp, policy)
    np.testing.assert_allclose(tabular.accumulated_error(mdp, policy, exact), 0.0, **CLOSE)


def test_weights_fall_with_the_error_of_the_target():
    mdp, policy = finite.random_mdp(0), finite.random_policy(0)
    delta = jnp.asarray(np.random.default_rng(0).uniform(0, 2, policy.shape))
    wrong = finite.DISCOUNT * finite.next_mean(mdp, (np.asarray(policy) * delta).sum(1))
    weight = tabular.discor_weight(mdp, policy, delta, 0.5)
    expected = np.exp(-wrong / 0.5)
    np.testing.assert_allclose(weight, expected / expected.sum(), **CLOSE)
    np.testing.assert_allclose(weight.sum(), 1.0, **CLOSE)


def test_equal_errors_weigh_equally():
    mdp, policy = finite.random_mdp(0, ending=0.0), finite.random_policy(0)
    weight = tabular.discor_weight(mdp, policy, jnp.full(policy.shape, 3.0), 1.0)
    np.testing.assert_allclose(weight, 1 / policy.size, **CLOSE)
