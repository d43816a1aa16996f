"""The models of the data's policy and the sampled distance from it, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from offrl_jax.algorithms.bcq import BCQConfig
from offrl_jax.algorithms.common.behavior import (
    MMDConfig,
    cvae_loss,
    decode,
    init_cvae,
    likelihood_loss,
    mmd_penalty,
    sample_cvae,
)
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_state_action_mlp

DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[:6], DATASET.transitions)
KEY = jax.random.key(5)
NETWORK = MLP((8, 8))
CONFIG = BCQConfig(behavior_network=NETWORK)
LATENT = 6  # two for each of three action dimensions
CVAE = filled(jax.eval_shape(lambda: init_cvae(NETWORK, DATASET.spec, KEY)))


def encoding(mean, log_std):
    """The CVAE with an encoder that says (mean, log_std) in every dimension, whatever it sees."""
    head = {
        "kernel": jnp.zeros((8, 2 * LATENT)),
        "bias": jnp.repeat(jnp.array([mean, log_std]), LATENT),
    }
    return CVAE | {"encoder": CVAE["encoder"] | {"head": head}}


def numpy_reconstruction(cvae, latent):
    """Mean squared error of the decoded actions, over batch and dimensions."""
    decoded = np.tanh(numpy_state_action_mlp(cvae["decoder"], BATCH.observation, latent))
    return np.mean((decoded - np.asarray(BATCH.action)) ** 2)


def numpy_noise(shape):
    return np.asarray(jax.random.normal(KEY, shape), np.float64)


def test_cvae_loss_equals_a_derivation_in_numpy():
    encoded = numpy_state_action_mlp(CVAE["encoder"], BATCH.observation, BATCH.action)
    mean, log_std = encoded[:, :LATENT], np.clip(encoded[:, LATENT:], -4, 15)
    variance = np.exp(log_std) ** 2
    latent = mean + np.sqrt(variance) * numpy_noise((6, LATENT))
    reconstruction = numpy_reconstruction(CVAE, latent)
    kl = -0.5 * np.mean([1 + np.log(variance) - mean**2 - variance])
    loss, metrics = cvae_loss(CONFIG, CVAE, BATCH, KEY)
    assert float(loss) == pytest.approx(reconstruction + 0.5 * kl, rel=1e-4)
    assert float(metrics["behavior/reconstruction"]) == pytest.approx(reconstruction, rel=1e-4)


def test_an_encoder_that_says_the_prior_costs_only_its_reconstruction():
    loss, metrics = cvae_loss(CONFIG, encoding(0.0, 0.0), BATCH, KEY)
    assert loss == metrics["behavior/reconstruction"]
    assert float(loss) == pytest.approx(numpy_reconstruction(CVAE, numpy_noise((6, 6))), rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "log_std", "clipped"),
    [(0.7, -0.5, -0.5), (-1.2, 0.4, 0.4), (0.3, -9.0, -4.0), (0.0, 40.0, 15.0)],
)
def test_half_the_mean_divergence_from_the_prior_is_added(mean, log_std, clipped):
    """E_N(m, σ²) log N(m, σ²) / N(0, 1) by quadrature, which is exact for the square in it."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    latent = mean + np.exp(clipped) * nodes
    ratio = norm.logpdf(latent, mean, np.exp(clipped)) - norm.logpdf(latent)
    kl = np.sum(weights * ratio) / np.sum(weights)
    loss, metrics = cvae_loss(CONFIG, encoding(mean, log_std), BATCH, KEY)
    assert float(loss - metrics["behavior/reconstruction"]) == pytest.approx(0.5 * kl, rel=1e-4)


@pytest.mark.parametrize("shape", [(6, LATENT), (6, 4, LATENT), (1, 4, LATENT)])
def test_latents_are_decoded_at_their_own_state(shape):
    latent = numpy_noise(shape)
    every = np.broadcast_to(latent, (6, *shape[1:]))
    expected = numpy_state_action_mlp(CVAE["decoder"], BATCH.observation, every)
    decoded = decode(NETWORK, CVAE, BATCH.observation, jnp.asarray(latent, jnp.float32))
    np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-5)


def test_samples_are_decoded_from_normal_latents_clipped_to_a_half():
    """With a decoder that returns its first latent."""
    spec = random_dataset(40, action_size=1).spec
    shapes = jax.eval_shape(lambda: init_cvae(MLP((8,)), spec, KEY))
    cvae = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    layer, head = cvae["decoder"]["network"]["Dense_0"], cvae["decoder"]["head"]
    layer["kernel"] = layer["kernel"].at[5, :2].set(jnp.array([1.0, -1.0]))
    head["kernel"] = head["kernel"].at[:2, 0].set(jnp.array([1.0, -1.0]))
    sampled = sample_cvae(MLP((8,)), cvae, jnp.ones((6, 5)), num_samples=200, key=KEY)
    expected = np.clip(numpy_noise((6, 200, 2))[..., :1], -0.5, 0.5)
    np.testing.assert_allclose(sampled, expected, atol=1e-6)
    assert 0.5 < np.mean(np.abs(sampled) == 0.5) < 0.75  # 62% of N(0, 1)


def test_samples_differ_by_state_with_a_key_and_are_shared_without():
    observation = jnp.ones((3, 5))
    one, other, same, again = (
        np.asarray(sample_cvae(NETWORK, CVAE, observation, num_samples=4, key=key))
        for key in (KEY, jax.random.key(6), None, None)
    )
    assert one.shape == (3, 4, 3)
    assert (one != other).all() and (one[0] != one[1]).all() and (one[:, 0] != one[:, 1]).all()
    np.testing.assert_array_equal(same, again)
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[:, 0] != same[:, 1]).all()
    # Nor does a state's sample depend on what else is in the batch.
    np.testing.assert_allclose(
        sample_cvae(NETWORK, CVAE, observation[:1], num_samples=4, key=None),
        same[:1],
        rtol=1e-5,
        atol=1e-6,
    )


def test_likelihood_loss_is_the_negative_mean_log_density():
    rng = np.random.default_rng(0)
    mean, log_std = rng.normal(size=(2, 6, 3))
    action = np.asarray(BATCH.action, np.float64)
    density = norm.pdf(np.arctanh(action), mean, np.exp(log_std)) / (1 - action**2)
    policy = TanhGaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32))
    expected = -np.log(density).sum(axis=1).mean()
    assert float(likelihood_loss(policy, BATCH.action)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "scale", "squash", "unbiased", "root"),
    [
        ({}, 2 * 20.0, False, False, True),  # BEAR's
        (
            {"mmd_sigma_convention": "brac", "mmd_pre_tanh": False, "mmd_root": False},
            20.0,
            True,
            False,
            False,
        ),
        (
            {"mmd_kernel": "gaussian", "mmd_sigma": 3.0, "mmd_unbiased": True, "mmd_root": False},
            2 * 3.0,
            False,
            True,
            False,
        ),
    ],
)
def test_mmd_penalty_follows_its_settings(settings, scale, squash, unbiased, root):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 3)), 2 + rng.normal(size=(2, 5, 3))
    penalty = mmd_penalty(MMDConfig(**settings), *(jnp.asarray(u, jnp.float32) for u in (x, y)))
    if squash:
        x, y = np.tanh(x), np.tanh(y)
    power = 2 if settings.get("mmd_kernel") == "gaussian" else 1

    def mean(a, b, without_self=False):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not without_self or i != j]
        return np.mean([np.exp(-(np.abs(a[i] - b[j]) ** power).sum() / scale) for i, j in pairs])

    for b in range(2):
        squared = mean(x[b], x[b], unbiased) + mean(y[b], y[b], unbiased) - 2 * mean(x[b], y[b])
        expected = np.sqrt(squared + 1e-6) if root else squared
        assert float(penalty[b]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
