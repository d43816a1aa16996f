"""ReLU critics as the linear maps that they are around their inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.networks.heads import critic_values_and_slopes, init_critics
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.networks.piecewise_linear import (
    gradient_of_both,
    is_piecewise_linear,
    values_and_slopes,
)
from tests.few import few
from tests.networks.test_modules import ACTIONS, KEY, OBSERVATION, SPEC, filled, numpy_critics

ACTION = ACTIONS[:, 0]
SIZES = {str(x): x for x in [(16,), (9, 7), (13, 1, 6), (5, 11, 3, 8)]}
over_sizes = pytest.mark.parametrize("sizes", few(SIZES, ["(9, 7)", "(5, 11, 3, 8)"]))


def critics(sizes, num=3):
    return filled(jax.eval_shape(lambda: init_critics(MLP(sizes), num, SPEC, KEY)))


class Doubled(MLP):
    def __call__(self, *inputs):
        return 2.0 * super().__call__(*inputs)


def test_only_mlps_of_relu_layers_alone_are_piecewise_linear():
    assert is_piecewise_linear(MLP((8,))) and is_piecewise_linear(MLP((8, 8), initializer="glorot"))
    for network in (MLP(activation="tanh"), MLP(layer_norm=True), Encoded(MLP(), MLP()), Doubled()):
        assert not is_piecewise_linear(network), network


@over_sizes
def test_values_and_slopes_are_those_of_the_network(sizes):
    critic = critics(sizes)
    q, slope, alive = values_and_slopes(critic, OBSERVATION, ACTION)
    np.testing.assert_allclose(q, numpy_critics(critic, OBSERVATION, ACTION), rtol=1e-4, atol=1e-4)
    expected = critic_values_and_slopes(MLP(sizes), critic, OBSERVATION, ACTION)
    for ours, theirs in zip((q, slope), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert [x.shape for x in alive] == [(3, 4, size) for size in sizes]
    assert 0 < sum(np.mean(x) for x in alive) < len(sizes)  # some of the units are dead


@over_sizes
def test_one_pass_gives_the_gradient_of_values_and_slopes_together(sizes):
    critic = critics(sizes)
    of_value, of_slope = (
        jax.random.normal(key, shape)
        for key, shape in zip(jax.random.split(KEY), ((3, 4), (3, 4, 3)), strict=True)
    )

    def as_written(critic):
        q, slope = critic_values_and_slopes(MLP(sizes), critic, OBSERVATION, ACTION)
        return jnp.sum(of_value * q) + jnp.sum(of_slope * slope)

    *_, alive = values_and_slopes(critic, OBSERVATION, ACTION)
    ours = gradient_of_both(
        critic, OBSERVATION, ACTION, alive, of_value=of_value, of_slope=of_slope
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        *(ours, jax.jit(jax.grad(as_written))(critic)),
    )
