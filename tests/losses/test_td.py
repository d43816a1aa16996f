import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.losses.td import polyak, td_target


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
