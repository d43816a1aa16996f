"""Heads and ensembles: what algorithms compute with networks, and networks of a user's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from offrl_jax.networks.heads import (
    categorical_policy,
    critic_values,
    critic_values_and_slopes,
    deterministic_policy,
    first,
    gaussian_policy,
    init_critics,
    init_outputs,
    init_policy,
    init_tanh_mean_policy,
    init_value,
    outputs,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.types import InputError
from tests.networks.test_modules import (
    ACTIONS,
    KEY,
    OBSERVATION,
    SPEC,
    filled,
    numpy_critics,
    numpy_mlp,
    numpy_policy,
)

NETWORK = MLP((8, 7))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_critics_are_independent_networks(layer_norm):
    network = MLP((8, 8), layer_norm=layer_norm)
    params = jax.jit(lambda: init_critics(network, 3, SPEC, KEY))()
    values = critic_values(network, params, OBSERVATION, ACTIONS)
    assert values.shape == (3, 4, 6)
    assert len({float(q) for q in values[:, 0, 0]}) == 3
    np.testing.assert_allclose(values, numpy_critics(params, OBSERVATION, ACTIONS), atol=1e-4)

    other = jax.tree.map(lambda x: x.at[1].add(0.5), params)
    after = critic_values(network, other, OBSERVATION, ACTIONS)
    np.testing.assert_array_equal(after[::2], values[::2])
    assert (after[1] != values[1]).all()


# Policies and values


def test_outputs_are_read_as_policies_of_three_kinds():
    params = filled(jax.eval_shape(lambda: init_policy(NETWORK, 6, SPEC, KEY)))
    output = numpy_mlp(params, np.asarray(OBSERVATION, np.float64))
    gaussian = gaussian_policy(NETWORK, params, OBSERVATION, log_std_range=(-0.4, 0.3))
    np.testing.assert_allclose(gaussian.mean, output[:, :3], atol=1e-4)
    np.testing.assert_allclose(gaussian.log_std, output[:, 3:].clip(-0.4, 0.3), atol=1e-4)
    categorical = categorical_policy(NETWORK, params, OBSERVATION)
    np.testing.assert_allclose(categorical.logits, output, atol=1e-4)
    action = deterministic_policy(NETWORK, params, OBSERVATION)
    np.testing.assert_allclose(action, np.tanh(output), atol=1e-4)


def test_the_means_of_a_tanh_mean_policy_are_a_network_of_the_state():
    params = filled(jax.eval_shape(lambda: init_tanh_mean_policy(NETWORK, SPEC, KEY)))
    policy = tanh_mean_policy(NETWORK, params, OBSERVATION)
    expected = numpy_policy(params["mean"], OBSERVATION)
    assert policy.mean.shape == (4, 3)
    np.testing.assert_allclose(policy.mean, expected, atol=1e-4)


def test_the_deviations_of_a_tanh_mean_policy_are_clipped_and_the_same_in_all_states():
    params = filled(jax.eval_shape(lambda: init_tanh_mean_policy(NETWORK, SPEC, KEY)))
    params["log_std"] = jnp.array([-9.0, 0.3, 4.0])
    policy = tanh_mean_policy(NETWORK, params, OBSERVATION)
    np.testing.assert_allclose(policy.log_std, np.tile([-5.0, 0.3, 2.0], (4, 1)), rtol=1e-6)


def test_a_new_tanh_mean_policy_has_unit_deviations_and_means_by_its_key():
    def create(key):
        return init_tanh_mean_policy(NETWORK, SPEC, key)

    first, other = (jax.jit(create)(jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first["log_std"], np.zeros(3))
    kernels = [p["mean"]["network"]["Dense_0"]["kernel"] for p in (first, other)]
    assert kernels[0].shape == (5, 8) and (kernels[0] != kernels[1]).all()


def test_the_value_is_a_network_of_the_state():
    params = filled(jax.eval_shape(lambda: init_value(NETWORK, SPEC, KEY)))
    expected = numpy_mlp(params, np.asarray(OBSERVATION, np.float64))
    value = state_value(NETWORK, params, OBSERVATION)
    assert value.shape == (4,)
    np.testing.assert_allclose(value, expected[:, 0], atol=1e-4)


# Encoders


class Encoder(nn.Module):
    """A layer whose kernel no other has the shape of."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(11, name="dense")(x))


ENCODED = Encoded(Encoder(), NETWORK)


def encoded_critics(num=3):
    return filled(jax.eval_shape(lambda: init_critics(ENCODED, num, SPEC, KEY)))


def products(function, *arrays):
    """Matrix products with a kernel (5, 11), and the number of rows of each."""
    found = []

    def walk(program):
        for equation in program.eqns:
            left, *rest = (x.aval.shape for x in equation.invars)
            if equation.primitive.name == "dot_general" and (5, 11) in rest:
                found.append(left[:-1])
            for inner in jaxprs_in_params(equation.params):
                walk(inner)

    walk(jax.make_jaxpr(function)(*arrays).jaxpr)
    return found


@pytest.mark.parametrize("num", [1, 5])
def test_an_ensemble_encodes_each_state_once(num):
    params = encoded_critics(num)
    assert params["encoder"]["network"]["dense"]["kernel"].shape == (5, 11)

    def slopes(params):
        return critic_values_and_slopes(ENCODED, params, OBSERVATION, ACTIONS[:, 0])

    for values in (lambda p: critic_values(ENCODED, p, OBSERVATION, ACTIONS), slopes):
        assert products(values, params) == [(4,)]


def test_an_ensemble_behind_an_encoder_equals_its_members_one_by_one():
    params = encoded_critics()
    values = critic_values(ENCODED, params, OBSERVATION, ACTIONS)
    dense = jax.tree.map(np.asarray, params["encoder"]["network"]["dense"])
    encoded = np.tanh(np.asarray(OBSERVATION) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(values, numpy_critics(params, encoded, ACTIONS), atol=1e-4)
    for k in range(3):
        member = jax.tree.map(lambda x, k=k: x[k], params["members"])
        whole = {"encoder": params["encoder"]["network"], "network": member["network"]}
        alone = {"network": whole, "head": member["head"]}
        of_member = outputs(ENCODED, alone, OBSERVATION, ACTIONS)[..., 0]
        np.testing.assert_allclose(values[k], of_member, rtol=1e-5, atol=1e-6)


def test_members_behind_an_encoder_start_differently_and_share_it():
    params = jax.jit(lambda: init_critics(ENCODED, 3, SPEC, KEY))()
    kernels = np.asarray(params["members"]["network"]["Dense_0"]["kernel"])
    assert kernels.shape == (3, 11 + 3, 8) and len(np.unique(kernels[:, 0, 0])) == 3

    @jax.jit
    @jax.grad
    def gradient(encoder, members):
        critic = {"encoder": encoder, "members": members}
        return critic_values(ENCODED, critic, OBSERVATION, ACTIONS).sum()

    of_each = [
        gradient(params["encoder"], jax.tree.map(lambda x, k=k: x[k : k + 1], params["members"]))
        for k in range(3)
    ]
    jax.tree.map(
        lambda x, *each: np.testing.assert_allclose(x, sum(each), rtol=1e-4, atol=1e-6),
        gradient(params["encoder"], params["members"]),
        *of_each,
    )


@pytest.mark.parametrize("network", [NETWORK, ENCODED], ids=["plain", "encoded"])
def test_the_first_critic_is_an_ensemble_of_one_with_the_same_encoder(network):
    params = jax.jit(lambda: init_critics(network, 3, SPEC, KEY))()
    values = critic_values(network, params, OBSERVATION, ACTIONS)
    alone = critic_values(network, first(params), OBSERVATION, ACTIONS)
    assert alone.shape == (1, 4, 6)
    np.testing.assert_allclose(alone[0], values[0], rtol=1e-5, atol=1e-6)
    assert first(params).keys() == params.keys()


@pytest.mark.parametrize("network", [MLP((8, 7), "tanh"), ENCODED], ids=["plain", "encoded"])
def test_slopes_are_the_derivatives_of_the_values(network):
    params = filled(jax.eval_shape(lambda: init_critics(network, 3, SPEC, KEY)))
    action = ACTIONS[:, 0]
    values, slopes = critic_values_and_slopes(network, params, OBSERVATION, action)
    expected = critic_values(network, params, OBSERVATION, action)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    jacobian = jax.jacobian(lambda a: critic_values(network, params, OBSERVATION, a))(action)
    expected = np.einsum("ebba->eba", jacobian)
    assert slopes.shape == (3, 4, 3)
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-5)


# Networks of one's own


class Torso(nn.Module):
    """A network that knows nothing of actions."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(7, name="dense")(x))


def test_a_network_without_actions_sees_states_and_actions_in_one_vector():
    """With several actions a state it equals itself with one by one."""
    params = filled(jax.eval_shape(lambda: init_critics(Torso(), 2, SPEC, KEY)))
    together = critic_values(Torso(), params, OBSERVATION, ACTIONS)
    assert together.shape == (2, 4, 6)
    for n in range(ACTIONS.shape[1]):
        alone = critic_values(Torso(), params, OBSERVATION, ACTIONS[:, n])
        np.testing.assert_allclose(together[..., n], alone, rtol=1e-5, atol=1e-6)
    member = jax.tree.map(lambda x: np.asarray(x[1], np.float64), params["members"])
    dense, head = member["network"]["dense"], member["head"]
    x = np.concatenate([OBSERVATION, ACTIONS[:, 2]], axis=1) @ dense["kernel"] + dense["bias"]
    expected = (np.tanh(x) @ head["kernel"] + head["bias"])[:, 0]
    np.testing.assert_allclose(together[1, :, 2], expected, atol=1e-4)


KEYS_SEEN = []


class Noting(nn.Module):
    """Notes the key that it receives, and adds 1 to its input where there is one."""

    @nn.compact
    def __call__(self, x, key=None):
        KEYS_SEEN.append(key)
        return x if key is None else x + 1.0


def test_a_network_receives_a_key_where_it_has_a_parameter_for_one():
    params = init_outputs(Noting(), 1, KEY, OBSERVATION)
    KEYS_SEEN.clear()
    plain, keyed = (outputs(Noting(), params, OBSERVATION, key=key) for key in (None, KEY))
    assert KEYS_SEEN == [None, KEY] and (plain != keyed).all()
    params = init_outputs(Torso(), 1, KEY, OBSERVATION)
    plain, keyed = (outputs(Torso(), params, OBSERVATION, key=key) for key in (None, KEY))
    np.testing.assert_array_equal(plain, keyed)


class OneNumber(nn.Module):
    """A number for each input in place of a vector."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[..., 0]


class Pooled(nn.Module):
    """Means over the batch."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x).mean(0)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))


WRONG = [
    (
        OneNumber(),
        r"OneNumber returns shape \(1,\) for inputs of shape .* one vector for each",
    ),
    (Pooled(), r"Pooled returns shape \(3,\) for inputs of shape .* one vector for each"),
    (
        Normed(),
        r"(Normed|Encoded) has the variables batch_stats beside its param.*such as LayerNorm in",
    ),
]


@pytest.mark.parametrize(("network", "words"), WRONG, ids=["one number", "pooled", "BatchNorm"])
@pytest.mark.parametrize("place", ["alone", "encoder", "behind an encoder"])
def test_what_is_no_network_is_refused_at_the_start(network, words, place):
    network = {
        "alone": network,
        "encoder": Encoded(network, MLP((4,))),
        "behind an encoder": Encoded(MLP((4,)), network),
    }[place]
    for init in (init_value, lambda *inputs: init_critics(inputs[0], 2, *inputs[1:])):
        with pytest.raises(InputError, match=words):
            init(network, SPEC, KEY)
