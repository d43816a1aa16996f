"""EDAC: the diversity of gradients by loops and finite differences, its limits, and SAC-N."""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.common import critics
from offrl_jax.algorithms.common.critics import q_values
from offrl_jax.algorithms.common.soft_actor_critic import Context, next_state_value
from offrl_jax.algorithms.edac import EDACConfig, critic_gradient, critic_loss, diversity_loss
from offrl_jax.config import validate
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.networks.piecewise_linear import values_and_slopes
from offrl_jax.types import InputError
from tests.arrays import random_dataset
from tests.few import few
from tests.networks.test_modules import numpy_critics

EDAC, SAC = ALGORITHMS["edac"], ALGORITHMS["sac"]
DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[:6], DATASET.transitions)
TARGET = jnp.asarray(np.random.default_rng(3).normal(size=6), jnp.float32)
NETWORK = MLP((16, 16))
SMALL = {"actor_network": NETWORK, "critic_network": NETWORK, "batch_size": 32}
CONFIG = EDACConfig(num_critics=4, diversity_weight=2.5, **SMALL)


STATE = EDAC.init(CONFIG, DATASET.spec, jax.random.key(0))
POLICY = TanhGaussian(jnp.zeros((6, 3)), jnp.zeros((6, 3)))
CONTEXT = Context(BATCH, TARGET, POLICY, POLICY, jax.random.key(0))


@pytest.fixture
def critic():
    return STATE.critic.params


def gradients(*rows):
    """(E, 1, A) of one state."""
    return jnp.asarray(rows, jnp.float32)[:, None]


def numpy_action_gradients(params, observation, action, step=1e-6):
    """∇_a Q_k by central differences, (E, B, A)."""
    action, shifts = np.asarray(action, np.float64), step * np.eye(action.shape[1])
    slopes = [
        numpy_critics(params, observation, action + shift)
        - numpy_critics(params, observation, action - shift)
        for shift in shifts
    ]
    return np.stack(slopes, axis=-1) / (2 * step)


def numpy_diversity(gradient):
    """mean_b 1/(E − 1) Σ_i Σ_{j≠i} cos(g_i, g_j), pair by pair."""
    size, num_states, _ = gradient.shape
    total = 0.0
    for b in range(num_states):
        for i in range(size):
            for j in range(size):
                if i != j:
                    a, c = gradient[i, b], gradient[j, b]
                    total += a @ c / (np.linalg.norm(a) * np.linalg.norm(c))
    return total / num_states / (size - 1)


def numpy_loss(params, weight):
    """Σ_k mean_b (Q_k − y)² + η diversity."""
    observation, action = (np.asarray(x, np.float64) for x in (BATCH.observation, BATCH.action))
    errors = numpy_critics(params, observation, action) - np.asarray(TARGET)
    diversity = numpy_diversity(numpy_action_gradients(params, observation, action))
    return (errors**2).mean(1).sum() + weight * diversity, diversity


def gradient_of(critic, weight=CONFIG.diversity_weight):
    config = dataclasses.replace(CONFIG, diversity_weight=weight)
    return critic_gradient(config, critic, CONTEXT)


def similarity(critic):
    return diversity_loss(action_gradients(critic))


def action_gradients(critic):
    """∇_a Q_k(s, a) by JAX, one critic at a time."""

    def total(action, k):
        return jnp.sum(q_values(CONFIG, critic, BATCH.observation, action)[k])

    slopes = [jax.grad(total)(BATCH.action, k) for k in range(len(jax.tree.leaves(critic)[0]))]
    return jnp.stack(slopes)


def similarity_gradient(critic):
    """What the diversity adds to the gradient at weight 1."""
    with_it, without = gradient_of(critic, 1.0)[0], gradient_of(critic, 0.0)[0]
    return jax.tree.map(jnp.subtract, with_it, without)


@pytest.mark.parametrize("size", [2, 3, 10])
def test_identical_gradients_score_their_number(size):
    gradient = jax.random.normal(jax.random.key(0), (1, 5, 3)).repeat(size, 0)
    assert diversity_loss(gradient) == pytest.approx(size, rel=1e-5)


def test_known_angles():
    assert diversity_loss(gradients([1, 0, 0], [0, 5, 0], [0, 0, -2])) == pytest.approx(0, abs=1e-6)
    # Two ordered pairs of cosine −1 over E − 1 = 1.
    assert diversity_loss(gradients([1, 2], [-3, -6])) == pytest.approx(-2, rel=1e-5)
    # Two alike and one opposite: (2 − 4) / 2. Three at 120°: 6 · (−½) / 2, the least there is.
    assert diversity_loss(gradients([1, 0], [2, 0], [-1, 0])) == pytest.approx(-1, rel=1e-5)
    third = np.sqrt(3) / 2
    star = gradients([1, 0], [-0.5, third], [-0.5, -third])
    assert diversity_loss(star) == pytest.approx(-1.5, rel=1e-5)


def test_diversity_equals_a_loop_over_pairs():
    gradient = np.random.default_rng(0).normal(size=(5, 7, 3))
    loss = diversity_loss(jnp.asarray(gradient, jnp.float32))
    assert loss == pytest.approx(numpy_diversity(gradient), rel=1e-4)


def test_identical_critics_score_their_number(critic):
    same = jax.tree.map(lambda x: x[:1].repeat(4, 0), critic)
    assert similarity(same) == pytest.approx(4, rel=1e-5)


def test_action_gradients_equal_finite_differences(critic):
    q, found, _ = values_and_slopes(critic, BATCH.observation, BATCH.action)
    np.testing.assert_allclose(
        q, q_values(CONFIG, critic, BATCH.observation, BATCH.action), rtol=1e-5, atol=1e-6
    )
    assert found.shape == (4, 6, 3)
    expected = numpy_action_gradients(critic, BATCH.observation, BATCH.action)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_critic_loss_equals_a_derivation_in_numpy(critic):
    _, metrics = gradient_of(critic)
    expected, diversity = numpy_loss(critic, 2.5)
    assert metrics["critic/loss"] == pytest.approx(expected, rel=1e-4)
    assert metrics["critic/similarity"] == pytest.approx(diversity, rel=1e-4)


class Doubled(MLP):
    def __call__(self, *inputs):
        return 2.0 * super().__call__(*inputs)


NETWORKS = {
    "16x16": NETWORK,
    "12x10x8": MLP((12, 10, 8)),
    "17": MLP((17,)),
    "5x9x1x13": MLP((5, 9, 1, 13)),
    "LayerNorm": MLP((16, 16), layer_norm=True),
    "tanh": MLP((16, 16), "tanh"),
    "encoded": Encoded(MLP((8,)), NETWORK),
    "extended": Doubled((16,)),
}


@pytest.mark.parametrize("network", few(NETWORKS, ["12x10x8", "LayerNorm"]))
def test_the_gradient_equals_that_of_the_loss_as_written(network):
    """In one pass where the network is of ReLU layers alone."""
    config = dataclasses.replace(CONFIG, critic_network=network)
    critic = EDAC.init(config, DATASET.spec, jax.random.key(1)).critic.params

    def loss(critic):
        def total(action, k):
            return jnp.sum(q_values(config, critic, BATCH.observation, action)[k])

        slopes = [jax.grad(total)(BATCH.action, k) for k in range(4)]
        td_loss = critics.critic_loss(config, critic, BATCH, TARGET)[0]
        return td_loss + 2.5 * diversity_loss(jnp.stack(slopes))

    as_written = jax.value_and_grad(critic_loss, argnums=1, has_aux=True)
    (_, expected_metrics), expected = jax.jit(as_written)(config, critic, CONTEXT)
    gradient, metrics = jax.jit(critic_gradient)(config, critic, CONTEXT)
    for other in (expected, jax.jit(jax.grad(loss))(critic)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient, other
        )
    assert metrics.keys() == expected_metrics.keys()
    for name, value in metrics.items():
        assert float(value) == pytest.approx(float(expected_metrics[name]), rel=1e-4), name


def test_a_network_with_layer_norms_trains():
    network = MLP((16, 16), layer_norm=True)
    config = EDACConfig(**SMALL | {"num_critics": 4, "critic_network": network})
    before = EDAC.init(config, DATASET.spec, jax.random.key(0)).critic.params
    state, metrics = trained(EDAC, 3, critic_network=network)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.critic.params)
    assert all(jax.tree.leaves(moved)), moved


def test_the_similarity_is_differentiated_through_the_gradients(critic):
    """Along a random direction, against differences of NumPy's own diversity in float64."""
    gradient = similarity_gradient(critic)
    leaves, structure = jax.tree.flatten(critic)
    rng = np.random.default_rng(1)
    direction = [rng.normal(size=x.shape) for x in leaves]
    directional = sum(
        float(np.sum(np.asarray(g) * d))
        for g, d in zip(jax.tree.leaves(gradient), direction, strict=True)
    )

    def moved(step):
        shifted = [
            np.asarray(x, np.float64) + step * d for x, d in zip(leaves, direction, strict=True)
        ]
        params = jax.tree.unflatten(structure, shifted)
        return numpy_diversity(
            numpy_action_gradients(params, np.asarray(BATCH.observation), np.asarray(BATCH.action))
        )

    step = 1e-5
    expected = (moved(step) - moved(-step)) / (2 * step)
    assert abs(expected) > 1e-2
    assert directional == pytest.approx(expected, rel=1e-2)


def test_every_layer_feels_the_similarity(critic):
    gradient = similarity_gradient(critic)["members"]
    layers = gradient["network"]
    for kernel in (
        layers["Dense_0"]["kernel"][:, DATASET.spec.observation_size :],
        layers["Dense_1"]["kernel"],
        gradient["head"]["kernel"],
    ):
        assert np.abs(kernel).max(axis=(1, 2)).min() > 1e-5  # of each of the critics


def test_without_weight_the_gradient_is_sac_ns(critic):
    actual, _ = gradient_of(critic, 0.0)
    expected = jax.grad(lambda c: critics.critic_loss(CONFIG, c, BATCH, TARGET)[0])(critic)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), actual, expected)


def trained(algorithm, num_steps, **settings):
    config = algorithm.Config(**SMALL | {"num_critics": 4} | settings)
    key = jax.random.key(0)
    state = init(algorithm, config, DATASET.spec, key)
    return learn(algorithm, config, DATASET, state, key, num_steps=num_steps)


def test_without_weight_edac_learns_what_sac_n_learns():
    actual, expected = trained(EDAC, 5, diversity_weight=0.0)[0], trained(SAC, 5)[0].agent
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)
    weighted = trained(EDAC, 5, diversity_weight=1.0)[0]
    after, alone = (s.critic.params["members"]["network"] for s in (weighted, expected))
    moved = after["Dense_0"]["kernel"] - alone["Dense_0"]["kernel"]
    assert np.abs(moved).max() > 1e-4


def test_the_scale_of_q_does_not_matter(critic):
    scaled = jax.tree.map(jnp.copy, critic)
    head = scaled["members"]["head"]
    head["kernel"], head["bias"] = 10 * head["kernel"], 10 * head["bias"]
    np.testing.assert_allclose(
        q_values(CONFIG, scaled, BATCH.observation, BATCH.action),
        10 * q_values(CONFIG, critic, BATCH.observation, BATCH.action),
        rtol=1e-4,
        atol=1e-5,
    )
    assert similarity(scaled) == pytest.approx(float(similarity(critic)), rel=1e-4)


@pytest.mark.parametrize("dead", [1, 4], ids=["one critic", "all critics"])
def test_dead_units_give_finite_losses_and_gradients(critic, dead):
    lame = jax.tree.map(jnp.copy, critic)
    layer = lame["members"]["network"]["Dense_0"]
    layer["bias"] = layer["bias"].at[:dead].set(-100.0)
    assert (values_and_slopes(lame, BATCH.observation, BATCH.action)[1][:dead] == 0).all()
    gradient, metrics = gradient_of(lame)
    leaves = jax.tree.leaves((metrics, gradient))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    if dead == 4:
        assert metrics["critic/similarity"] == 0
    three = jax.tree.map(lambda x: x[dead:], lame)
    if dead == 1:  # the dead one is in no pair, but counts in E − 1
        assert metrics["critic/similarity"] == pytest.approx(
            2 / 3 * float(similarity(three)), rel=1e-4
        )


def test_training_makes_the_critics_differ():
    fast = {"critic_learning_rate": 3e-3}
    alike = trained(EDAC, 150, diversity_weight=0.0, **fast)[1]["critic/similarity"]
    told = trained(EDAC, 150, diversity_weight=1.0, **fast)[1]["critic/similarity"]
    assert told < alike - 0.2


def test_one_critic_is_refused():
    with pytest.raises(InputError, match=r"num_critics=1 is outside \[2, inf\]"):
        validate(EDACConfig(num_critics=1))
    with pytest.raises(InputError, match="diversity_weight=-1"):
        validate(EDACConfig(diversity_weight=-1.0))


@pytest.mark.parametrize("size", [2, 10, 50])
def test_the_pessimism_of_a_minimum_over_critics(size):
    """E min of N standard normals ≈ −Φ⁻¹((N − π/8) / (N − π/4 + 1)): by how many standard
    deviations of the ensemble the target is lowered, here by critics that are constants."""
    expected = -statistics.NormalDist().inv_cdf((size - np.pi / 8) / (size - np.pi / 4 + 1))
    config = SAC.Config(num_critics=size, backup="deterministic", critic_network=MLP((1,)))
    critic = SAC.init(config, DATASET.spec, jax.random.key(0)).agent.critic.params
    zero = jax.tree.map(jnp.zeros_like, critic["members"])
    batch = jax.tree.map(lambda x: x[:1], BATCH)
    policy = TanhGaussian(jnp.zeros((1, 3)), jnp.zeros((1, 3)))

    def value(bias):
        members = zero | {"head": zero["head"] | {"bias": bias[:, None]}}
        state = STATE._replace(target_critic={"members": members})
        return next_state_value(config, state, batch, policy, jax.random.key(0))

    values = jax.jit(jax.vmap(value))(jax.random.normal(jax.random.key(0), (20_000, size)))
    # The approximation itself is 0.04 off at N = 2, where the mean is −1/√π.
    assert values.mean() == pytest.approx(expected, abs=0.05 if size == 2 else 0.03)


@pytest.mark.parametrize("size", [2, 4, 10, 20, 50])
def test_sac_n_takes_any_number_of_critics(size):
    config = SAC.Config(num_critics=size, **SMALL)
    state = jax.eval_shape(lambda: SAC.init(config, DATASET.spec, jax.random.key(0)))
    after, _ = jax.eval_shape(lambda s: SAC.update(config, s, BATCH, jax.random.key(1)), state)
    state, after = state.agent, after.agent
    for ensemble in (state.critic.params, after.critic.params, after.target_critic):
        assert {leaf.shape[0] for leaf in jax.tree.leaves(ensemble)} == {size}


@pytest.mark.slow
def test_fifty_critics_learn_from_independent_starts():
    small = {"actor_network": MLP((8,)), "critic_network": MLP((8,))}
    state, metrics = trained(SAC, 3, num_critics=50, **small)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    members = state.agent.critic.params["members"]
    kernel = np.asarray(members["network"]["Dense_0"]["kernel"])
    assert len(np.unique(kernel[:, 0, 0])) == 50
