"""The networks against the same layers in NumPy, which other tests build on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.networks import MLP, StateActionMLP, critic_values, init_critics
from tests.arrays import random_dataset

KEY = jax.random.key(0)
SPEC = random_dataset().spec
OBSERVATION, ACTIONS = (
    jax.random.normal(key, shape)
    for key, shape in zip(jax.random.split(KEY), ((4, 5), (4, 6, 3)), strict=True)
)


def numpy_mlp(params, x):
    """Dense → ReLU (→ LayerNorm), as often as there are layers; then the head."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for i in range(sum(name.startswith("Dense") for name in p)):
        x = np.maximum(x @ p[f"Dense_{i}"]["kernel"] + p[f"Dense_{i}"]["bias"], 0)
        x = _layer_norm(p.get(f"LayerNorm_{i}"), x)
    return x @ p["head"]["kernel"] + p["head"]["bias"]


def numpy_state_action_mlp(params, observation, action):
    """The same on [s, a], for one action a state (B, A) or several (B, N, A)."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    observation, action = np.asarray(observation, np.float64), np.asarray(action, np.float64)
    if action.ndim > observation.ndim:
        observation = np.repeat(observation[:, None], action.shape[1], axis=1)
    x = np.maximum(np.concatenate([observation, action], -1) @ p["kernel"] + p["bias"], 0)
    return numpy_mlp(p["MLP_0"], _layer_norm(p.get("LayerNorm_0"), x))


def numpy_critics(params, observation, action):
    """Q_k(s, a) of each stacked critic, (E, B) or (E, B, N)."""
    members = [jax.tree.map(lambda leaf, k=k: leaf[k], params) for k in range(num_critics(params))]
    return np.stack([numpy_state_action_mlp(m, observation, action)[..., 0] for m in members])


def num_critics(params):
    return len(params["params"]["bias"])


def numpy_policy(params, observation):
    """tanh of an MLP of s."""
    return np.tanh(numpy_mlp(params["params"], np.asarray(observation, np.float64)))


def filled(params, seed=0):
    """Random parameters of the same shapes: no bias is 0, and no scale of a LayerNorm 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), params)


def initial(network, *inputs):
    return filled(jax.eval_shape(network.init, KEY, *inputs))


def _layer_norm(params, x):
    if params is None:
        return x
    standardised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return standardised * params["scale"] + params["bias"]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_layers_come_in_the_order_dense_relu_layer_norm(layer_norm):
    network = MLP((7, 6), 2, layer_norm)
    params = initial(network, OBSERVATION)
    expected = numpy_mlp(params["params"], np.asarray(OBSERVATION, np.float64))
    np.testing.assert_allclose(network.apply(params, OBSERVATION), expected, atol=1e-4)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_several_actions_a_state_equal_one_by_one(layer_norm):
    network = StateActionMLP((8, 7), 2, layer_norm)
    params = initial(network, OBSERVATION, ACTIONS[:, 0])
    together = network.apply(params, OBSERVATION, ACTIONS)
    for n in range(ACTIONS.shape[1]):
        alone = network.apply(params, OBSERVATION, ACTIONS[:, n])
        np.testing.assert_allclose(together[:, n], alone, rtol=1e-4, atol=1e-5)
    expected = numpy_state_action_mlp(params, OBSERVATION, ACTIONS)
    np.testing.assert_allclose(together, expected, atol=1e-4)


def test_layer_norm_has_a_scale_and_a_bias_after_every_hidden_layer_only_if_asked_for():
    plain, normed = (
        jax.eval_shape(lambda n=n: init_critics((8, 7, 6), 2, SPEC, KEY, layer_norm=n))
        for n in (False, True)
    )
    assert "LayerNorm" not in str(jax.tree.structure(plain))
    first, deeper = normed["params"]["LayerNorm_0"], normed["params"]["MLP_0"]
    for norm, size in ((first, 8), (deeper["LayerNorm_0"], 7), (deeper["LayerNorm_1"], 6)):
        assert norm["scale"].shape == norm["bias"].shape == (2, size)
    assert "LayerNorm_2" not in deeper  # not after the head


def test_layer_norm_forgets_the_size_of_its_input():
    """Without biases, ReLU layers scale with their input, and a LayerNorm takes the scale out."""
    for layer_norm in (False, True):
        network = MLP((8,), 1, layer_norm)
        params = jax.jit(network.init)(KEY, OBSERVATION)
        outputs = [network.apply(params, scale * OBSERVATION) for scale in (1.0, 3.0)]
        assert np.allclose(*outputs, atol=1e-4) == layer_norm


@pytest.mark.parametrize("layer_norm", [False, True])
def test_critics_are_independent_networks(layer_norm):
    params = jax.jit(lambda: init_critics((8, 8), 3, SPEC, KEY, layer_norm=layer_norm))()
    values = critic_values((8, 8), params, OBSERVATION, ACTIONS, layer_norm=layer_norm)
    assert values.shape == (3, 4, 6)
    assert len({float(q) for q in values[:, 0, 0]}) == 3
    np.testing.assert_allclose(values, numpy_critics(params, OBSERVATION, ACTIONS), atol=1e-4)

    other = jax.tree.map(lambda x: x.at[1].add(0.5), params)
    after = critic_values((8, 8), other, OBSERVATION, ACTIONS, layer_norm=layer_norm)
    np.testing.assert_array_equal(after[::2], values[::2])
    assert (after[1] != values[1]).all()
