import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.losses.td import ensemble_loss, ensemble_mix, polyak, td_target


def test_target_bootstraps_unless_terminal():
    target = td_target(jnp.ones(2), jnp.array([0.0, 1.0]), jnp.full(2, 10.0), 0.9)
    np.testing.assert_allclose(target, [10.0, 1.0], rtol=1e-6)


def test_no_gradient_flows_through_the_target():
    gradient = jax.grad(lambda v: td_target(jnp.ones(1), jnp.zeros(1), v, 0.9).sum())(jnp.ones(1))
    assert gradient == 0.0


def test_polyak_moves_by_its_rate():
    moved = polyak({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, 0.25)
    np.testing.assert_allclose(moved["w"], 0.25)
    np.testing.assert_array_equal(polyak(jnp.ones(2), jnp.full(2, 3.0), 1.0), 3.0)


def test_ensemble_loss_is_a_sum_over_critics_of_means_without_a_half():
    q, target = jnp.array([[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]]), jnp.array([3.0, 1.0])
    # squared errors (4, 1), (9, 16), (0, 4)
    np.testing.assert_allclose(ensemble_loss(q, target), 2.5 + 12.5 + 2.0, rtol=1e-6)


def test_the_mix_weighs_the_least_and_the_greatest_critic():
    q = jnp.array([[[1.0, 8.0]], [[5.0, 0.0]], [[2.0, 4.0]]])  # (E, B, N) = (3, 1, 2)
    np.testing.assert_allclose(ensemble_mix(q, 0.75), [[0.75 + 1.25, 2.0]], rtol=1e-6)
    np.testing.assert_array_equal(ensemble_mix(q, 1.0), [[1.0, 0.0]])
    np.testing.assert_array_equal(ensemble_mix(q[:, :, 0], 0.0), [5.0])
