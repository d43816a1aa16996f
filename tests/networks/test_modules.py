"""The networks against the same layers in NumPy, which other tests build on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.devices import BFLOAT16
from offrl_jax.networks.heads import (
    critic_values,
    init_critics,
    init_outputs,
    init_value,
    outputs,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import ACTIVATIONS, INITIALIZERS, MLP, Encoded
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
    layers = p["network"]
    for i in range(sum(name.startswith("Dense") for name in layers)):
        x = np.maximum(x @ layers[f"Dense_{i}"]["kernel"] + layers[f"Dense_{i}"]["bias"], 0)
        x = _layer_norm(layers.get(f"LayerNorm_{i}"), x)
    return x @ p["head"]["kernel"] + p["head"]["bias"]


def numpy_state_action_mlp(params, observation, action):
    """The same on [s, a], for one action a state (B, A) or several (B, N, A)."""
    observation, action = np.asarray(observation, np.float64), np.asarray(action, np.float64)
    if action.ndim > observation.ndim:
        observation = np.repeat(observation[:, None], action.shape[1], axis=1)
    return numpy_mlp(params, np.concatenate([observation, action], -1))


def numpy_critics(params, observation, action):
    """Q_k(s, a) of each stacked critic, (E, B) or (E, B, N)."""
    members = [
        jax.tree.map(lambda leaf, k=k: leaf[k], params["members"])
        for k in range(num_critics(params))
    ]
    return np.stack([numpy_state_action_mlp(m, observation, action)[..., 0] for m in members])


def num_critics(params):
    return len(params["members"]["head"]["bias"])


def numpy_policy(params, observation):
    """tanh of an MLP of s."""
    return np.tanh(numpy_mlp(params, np.asarray(observation, np.float64)))


def filled(params, seed=0):
    """Random parameters of the same shapes: no bias is 0, and no scale of a LayerNorm 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), params)


def initial(network, *inputs, output_size=2):
    return filled(jax.eval_shape(lambda: init_outputs(network, output_size, KEY, *inputs)))


def _layer_norm(params, x):
    if params is None:
        return x
    standardised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return standardised * params["scale"] + params["bias"]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_layers_come_in_the_order_dense_relu_layer_norm(layer_norm):
    network = MLP((7, 6), layer_norm=layer_norm)
    params = initial(network, OBSERVATION)
    expected = numpy_mlp(params, np.asarray(OBSERVATION, np.float64))
    np.testing.assert_allclose(outputs(network, params, OBSERVATION), expected, atol=1e-4)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_several_actions_a_state_equal_one_by_one(layer_norm):
    network = MLP((8, 7), layer_norm=layer_norm)
    params = initial(network, OBSERVATION, ACTIONS[:, 0])
    together = outputs(network, params, OBSERVATION, ACTIONS)
    for n in range(ACTIONS.shape[1]):
        alone = outputs(network, params, OBSERVATION, ACTIONS[:, n])
        np.testing.assert_allclose(together[:, n], alone, rtol=1e-4, atol=1e-5)
    expected = numpy_state_action_mlp(params, OBSERVATION, ACTIONS)
    np.testing.assert_allclose(together, expected, atol=1e-4)


def test_layer_norm_has_a_scale_and_a_bias_after_every_hidden_layer_only_if_asked_for():
    plain, normed = (
        jax.eval_shape(lambda n=n: init_critics(MLP((8, 7, 6), layer_norm=n), 2, SPEC, KEY))
        for n in (False, True)
    )
    assert "LayerNorm" not in str(jax.tree.structure(plain))
    members = normed["members"]
    for i, size in enumerate((8, 7, 6)):
        norm = members["network"][f"LayerNorm_{i}"]
        assert norm["scale"].shape == norm["bias"].shape == (2, size)
    assert "LayerNorm" not in str(jax.tree.structure(members["head"]))


def test_layer_norm_forgets_the_size_of_its_input():
    """Without biases, ReLU layers scale with their input, and a LayerNorm takes the scale out."""
    for layer_norm in (False, True):
        network = MLP((8,), layer_norm=layer_norm)
        params = jax.jit(lambda network=network: init_outputs(network, 1, KEY, OBSERVATION))()
        found = [outputs(network, params, scale * OBSERVATION) for scale in (1.0, 3.0)]
        assert np.allclose(*found, atol=1e-4) == layer_norm


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_layer_is_followed_by_its_activation(activation):
    network = MLP((8, 7), activation)
    params = initial(network, OBSERVATION)
    x = OBSERVATION
    for layer in (params["network"][f"Dense_{i}"] for i in range(2)):
        x = getattr(jax.nn, activation)(x @ layer["kernel"] + layer["bias"][None])
    expected = x @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(
        outputs(network, params, OBSERVATION), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_weights_start_as_the_initializer_says_and_biases_at_zero(initializer):
    network = MLP((64, 96), initializer=initializer)
    params = jax.jit(lambda: init_outputs(network, 2, KEY, jnp.zeros((1, 80))))()
    assert all((np.asarray(layer["bias"]) == 0).all() for layer in params["network"].values())
    kernel = np.asarray(params["network"]["Dense_1"]["kernel"], np.float64)
    if initializer == "orthogonal":
        np.testing.assert_allclose(kernel @ kernel.T, 2 * np.eye(64), atol=1e-5)
    else:
        bound = 1 / np.sqrt(64) if initializer == "torch" else np.sqrt(6 / (64 + 96))
        assert np.abs(kernel).max() == pytest.approx(bound, rel=0.01)
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    bound = 1 / np.sqrt(96)  # the head's, whatever the network's
    assert np.abs(params["head"]["kernel"]).max() == pytest.approx(bound, rel=0.05)


# Dropout


def transparent(depth, width):
    """Every hidden unit of the first layer is 1, deeper layers and the head copy their input."""
    copy = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    ones = {"kernel": jnp.zeros((5, width)), "bias": jnp.ones(width)}
    deeper = {f"Dense_{i}": copy for i in range(1, depth)}
    return {"network": {"Dense_0": ones, **deeper}, "head": copy}


def units(depth, rate, key, *, rows=50, width=400):
    network = MLP((width,) * depth, dropout=rate)
    params = transparent(depth, width)
    return np.asarray(outputs(network, params, jnp.ones((rows, 5)), key=key))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_units_are_dropped_at_the_rate_and_the_rest_scaled_up(rate):
    output = units(1, rate, KEY)
    assert np.unique(output) == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-6)
    spread = np.sqrt(rate * (1 - rate) / output.size)
    assert (output == 0).mean() == pytest.approx(rate, abs=4 * spread)
    assert (output[0] != output[1]).any()


def test_layers_and_keys_drop_different_units():
    rate = 0.5
    output, kept = units(2, rate, KEY), (1 - rate) ** 2
    spread = np.sqrt(kept * (1 - kept) / output.size)
    assert (output > 0).mean() == pytest.approx(kept, abs=4 * spread)
    assert output.max() == pytest.approx(1 / kept)
    one, same, other = (units(1, rate, jax.random.key(seed)) > 0 for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one == other).mean() == pytest.approx(0.5, abs=0.02)


def test_units_are_dropped_after_the_layer_norm():
    network, width = MLP((6,), layer_norm=True, dropout=0.5), 6
    params = transparent(1, width)
    params["network"]["LayerNorm_0"] = {"scale": jnp.ones(width), "bias": jnp.ones(width)}
    output = outputs(network, params, jnp.ones((50, 5)), key=KEY)
    assert np.unique(output) == pytest.approx([0.0, 2.0], abs=1e-6)


def test_an_encoder_and_its_network_drop_different_units():
    width = 400
    ones = {"kernel": jnp.zeros((5, width)), "bias": jnp.ones(width)}
    copy = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    params = {"encoder": {"Dense_0": ones}, "network": {"Dense_0": copy}}
    network = Encoded(MLP((width,), dropout=0.5), MLP((width,), dropout=0.5))
    found = network.apply({"params": params}, jnp.ones((50, 5)), key=KEY)
    assert (np.asarray(found) > 0).mean() == pytest.approx(0.25, abs=0.02)


def by_mlp(network, params, key):
    return outputs(network, params, OBSERVATION, key=key)


def by_value(network, params, key):
    return state_value(network, params, OBSERVATION, key=key)[:, None]


def by_policy(network, params, key):
    params = {"mean": params, "log_std": jnp.zeros(1)}
    return jnp.arctanh(tanh_mean_policy(network, params, OBSERVATION, key=key).mean)


@pytest.mark.parametrize("call", [by_mlp, by_value, by_policy])
def test_only_calls_with_a_key_and_a_rate_drop_units(call):
    steady, dropping = (MLP((8, 7), dropout=rate) for rate in (0.0, 0.5))
    params = jax.jit(lambda: init_value(steady, SPEC, KEY))()
    plain = call(steady, params, None)
    for network, key in ((dropping, None), (steady, KEY)):
        np.testing.assert_array_equal(call(network, params, key), plain)
    dropped = call(dropping, params, KEY)
    assert (dropped != plain).any()
    np.testing.assert_allclose(dropped, by_mlp(dropping, params, KEY), rtol=1e-4, atol=1e-6)


def test_dropout_adds_no_parameters():
    plain, dropping = (
        jax.eval_shape(lambda rate=rate: init_value(MLP((8, 7), dropout=rate), SPEC, KEY))
        for rate in (0.0, 0.5)
    )
    assert jax.tree.structure(plain) == jax.tree.structure(dropping)


def test_bfloat16_is_of_hidden_layers_alone():
    network = MLP((64, 64), layer_norm=True)
    params = init_critics(network, 2, SPEC, KEY)

    def values(params, action=ACTIONS):
        return critic_values(network, params, OBSERVATION, action)

    exact = values(params)
    with jax.default_matmul_precision(BFLOAT16):
        program = str(jax.make_jaxpr(values)(params))
        rounded = values(params), values(params, ACTIONS[:, 0])[:, :, None]
        gradient = jax.grad(lambda params: jnp.sum(values(params)))(params)
    assert "bf16" in program and "bf16" not in str(jax.make_jaxpr(values)(params))
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded, gradient))} == {jnp.dtype("float32")}
    for of_actions in rounded:
        error = np.abs(of_actions - exact[..., : of_actions.shape[-1]])
        assert 1e-5 < error.max() < 0.02  # 8 bits of numbers about 1


def test_networks_print_on_one_line():
    network = Encoded(MLP((4,), layer_norm=True), MLP())
    assert repr(network) == (
        "Encoded(encoder=MLP(hidden_sizes=(4,), layer_norm=True), "
        "network=MLP(hidden_sizes=(256, 256)))"
    )
