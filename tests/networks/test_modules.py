"""The networks against the same layers in NumPy, which other tests build on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.networks.modules import (
    BFLOAT16,
    MLP,
    StateActionMLP,
    critic_values,
    init_critics,
    init_tanh_mean_policy,
    init_value,
    state_value,
    tanh_mean_policy,
)
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


# The policy and the value of IQL


def test_the_means_of_a_tanh_mean_policy_are_a_network_of_the_state():
    params = filled(jax.eval_shape(lambda: init_tanh_mean_policy((8, 7), SPEC, KEY)))
    policy = tanh_mean_policy((8, 7), params, OBSERVATION)
    expected = numpy_policy(params["mean"], OBSERVATION)
    assert policy.mean.shape == (4, 3)
    np.testing.assert_allclose(policy.mean, expected, atol=1e-4)


def test_the_deviations_of_a_tanh_mean_policy_are_clipped_and_the_same_in_all_states():
    params = filled(jax.eval_shape(lambda: init_tanh_mean_policy((8, 7), SPEC, KEY)))
    params["log_std"] = jnp.array([-9.0, 0.3, 4.0])
    policy = tanh_mean_policy((8, 7), params, OBSERVATION)
    np.testing.assert_allclose(policy.log_std, np.tile([-5.0, 0.3, 2.0], (4, 1)), rtol=1e-6)


def test_a_new_tanh_mean_policy_has_unit_deviations_and_means_by_its_key():
    def create(key):
        return init_tanh_mean_policy((8, 7), SPEC, key)

    first, other = (jax.jit(create)(jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first["log_std"], np.zeros(3))
    kernels = [p["mean"]["params"]["Dense_0"]["kernel"] for p in (first, other)]
    assert kernels[0].shape == (5, 8) and (kernels[0] != kernels[1]).all()


def test_the_value_is_a_network_of_the_state():
    params = filled(jax.eval_shape(lambda: init_value((8, 7), SPEC, KEY)))
    expected = numpy_mlp(params["params"], np.asarray(OBSERVATION, np.float64))
    value = state_value((8, 7), params, OBSERVATION)
    assert value.shape == (4,)
    np.testing.assert_allclose(value, expected[:, 0], atol=1e-4)


# Dropout


def transparent(depth, width):
    """Every hidden unit of the first layer is 1, deeper layers and the head copy their input."""
    copy = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    ones = {"kernel": jnp.zeros((5, width)), "bias": jnp.ones(width)}
    deeper = {f"Dense_{i}": copy for i in range(1, depth)}
    return {"params": {"Dense_0": ones, **deeper, "head": copy}}


def units(depth, rate, key, *, rows=50, width=400):
    network = MLP((width,) * depth, width, dropout=rate)
    return np.asarray(network.apply(transparent(depth, width), jnp.ones((rows, 5)), key))


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
    network, width = MLP((6,), 6, layer_norm=True, dropout=0.5), 6
    params = transparent(1, width)
    params["params"]["LayerNorm_0"] = {"scale": jnp.ones(width), "bias": jnp.ones(width)}
    output = network.apply(params, jnp.ones((50, 5)), KEY)
    assert np.unique(output) == pytest.approx([0.0, 2.0], abs=1e-6)


def by_mlp(params, key, rate):
    return MLP((8, 7), 1, dropout=rate).apply(params, OBSERVATION, key)


def by_value(params, key, rate):
    return state_value((8, 7), params, OBSERVATION, dropout=rate, key=key)[:, None]


def by_policy(params, key, rate):
    params = {"mean": params, "log_std": jnp.zeros(1)}
    return jnp.arctanh(tanh_mean_policy((8, 7), params, OBSERVATION, dropout=rate, key=key).mean)


@pytest.mark.parametrize("network", [by_mlp, by_value, by_policy])
def test_only_calls_with_a_key_and_a_rate_drop_units(network):
    params = jax.jit(lambda: init_value((8, 7), SPEC, KEY))()
    plain = network(params, None, 0.0)
    for key, rate in ((None, 0.5), (KEY, 0.0)):
        np.testing.assert_array_equal(network(params, key, rate), plain)
    dropped = network(params, KEY, 0.5)
    assert (dropped != plain).any()
    np.testing.assert_allclose(dropped, by_mlp(params, KEY, 0.5), rtol=1e-4, atol=1e-6)


def test_dropout_adds_no_parameters():
    plain, dropping = (
        jax.eval_shape(MLP((8, 7), 2, dropout=rate).init, KEY, OBSERVATION) for rate in (0.0, 0.5)
    )
    assert jax.tree.structure(plain) == jax.tree.structure(dropping)


def test_bfloat16_is_of_hidden_layers_alone():
    params = init_critics((64, 64), 2, SPEC, KEY, layer_norm=True)

    def values(params, action=ACTIONS):
        return critic_values((64, 64), params, OBSERVATION, action, layer_norm=True)

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
