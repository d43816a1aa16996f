"""TD3+BC's actor loss against NumPy; the rest of its step is in `test_twin_delayed.py`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.base import phases_of
from offrl_jax.algorithms.rebrac import critic_update as rebrac_critic_update
from offrl_jax.algorithms.td3_bc import TD3BCConfig, actor_loss, critic_update
from offrl_jax.data import sample
from offrl_jax.networks.heads import deterministic_policy
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from tests.arrays import bandit, chain, random_dataset
from tests.networks.test_modules import numpy_critics, numpy_policy

TD3_BC = ALGORITHMS["td3_bc"]
DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[:9], DATASET.transitions)
NETWORK = MLP((8,))
CONFIG = TD3BCConfig(q_weight=1.7, actor_network=NETWORK, critic_network=NETWORK, batch_size=9)
KEY = jax.random.key(1)
STATE = init(TD3_BC, CONFIG, DATASET.spec, jax.random.key(5))
ACTOR, CRITIC = STATE.actor.params, STATE.critic.params
critic_step, whole_step = jax.jit(critic_update), jax.jit(TD3_BC.update)
gradient_of = jax.jit(jax.grad(lambda *args: actor_loss(*args)[0], argnums=1))


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), actual, expected
    )


def numpy_terms(actor, critic):
    """Q_1 of the policy's actions (B,) and the mean squared error over batch and dimensions."""
    action = numpy_policy(actor, BATCH.observation)
    error = np.mean((action - np.asarray(BATCH.action)) ** 2)
    return numpy_critics(critic, BATCH.observation, action)[0], error


def scaled(critic, factor):
    """The critic whose every value is `factor` times as large."""
    members = critic["members"]
    head = jax.tree.map(lambda x: factor * x, members["head"])
    return {"members": members | {"head": head}}


def test_actor_loss_equals_a_derivation_in_numpy():
    """−α mean Q_1 / mean |Q_1| + mean over batch and dimensions of (π − a)²."""
    q, error = numpy_terms(ACTOR, CRITIC)
    assert 0 < (q > 0).sum() < 9  # so that mean |Q| is not |mean Q|
    loss, metrics = actor_loss(CONFIG, ACTOR, CRITIC, BATCH)
    assert float(loss) == pytest.approx(-1.7 * q.mean() / np.abs(q).mean() + error, rel=1e-4)
    assert float(metrics["actor/cloning_error"]) == pytest.approx(error, rel=1e-5)


def test_no_gradient_flows_through_the_weight_of_q():
    """The slope along a random direction, λ held at its value, by central differences."""
    q, _ = numpy_terms(ACTOR, CRITIC)
    weight = 1.7 / np.abs(q).mean()

    def objective(actor):
        q, error = numpy_terms(actor, CRITIC)
        return -weight * q.mean() + error

    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), ACTOR)
    ahead, behind = (
        jax.tree.map(lambda x, d, h=h: np.asarray(x, np.float64) + h * d, ACTOR, direction)
        for h in (1e-6, -1e-6)
    )
    slope = (objective(ahead) - objective(behind)) / 2e-6
    gradient = gradient_of(CONFIG, ACTOR, CRITIC, BATCH)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))
    assert along == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("factor", [0.02, 50.0])
def test_scaling_q_changes_no_actor_update(factor):
    larger = scaled(CRITIC, factor)
    np.testing.assert_allclose(
        numpy_critics(larger, BATCH.observation, BATCH.action),
        factor * numpy_critics(CRITIC, BATCH.observation, BATCH.action),
        rtol=1e-4,
    )
    gradient = gradient_of(CONFIG, ACTOR, CRITIC, BATCH)
    assert_close(gradient_of(CONFIG, ACTOR, larger, BATCH), gradient)
    opposite = gradient_of(CONFIG, ACTOR, scaled(CRITIC, -1.0), BATCH)
    assert not np.allclose(*(g["head"]["kernel"] for g in (gradient, opposite)))


def test_without_weight_the_actor_clones_by_mean_squared_error():
    def mean_squared_error(actor):
        action = deterministic_policy(NETWORK, actor, BATCH.observation)
        return jnp.mean((action - BATCH.action) ** 2)

    config = dataclasses.replace(CONFIG, q_weight=0.0)
    cloning = jax.grad(mean_squared_error)(ACTOR)
    assert_close(gradient_of(config, ACTOR, CRITIC, BATCH), cloning)


def test_the_actor_follows_the_critics_of_the_same_step():
    """`update` is the critics' step and then the actor's, on the new first critic."""
    config = dataclasses.replace(CONFIG, critic_learning_rate=0.1)
    between, critic_metrics = critic_step(config, STATE, BATCH, KEY)
    after, metrics = whole_step(config, STATE, BATCH, KEY)
    assert_close(after.critic, between.critic)
    q, error = numpy_terms(ACTOR, between.critic.params)
    expected = -1.7 * q.mean() / np.abs(q).mean() + error
    assert float(metrics["actor/loss"]) == pytest.approx(expected, rel=1e-3)
    assert metrics["critic/loss"] == pytest.approx(float(critic_metrics["critic/loss"]), rel=1e-5)

    # Adam's first moment is a tenth of the gradient.
    gradient = gradient_of(config, ACTOR, between.critic.params, BATCH)
    assert_close(after.actor.opt_state[0].mu, jax.tree.map(lambda g: 0.1 * g, gradient))


def test_two_steps_of_training_are_one_of_the_critics_and_one_of_all():
    state, between = STATE, None
    for step, update in enumerate((critic_step, whole_step)):
        sample_key, update_key = jax.random.split(jax.random.fold_in(KEY, step))
        batch = sample(DATASET, sample_key, CONFIG.batch_size)
        between, (state, _) = state, update(CONFIG, state, batch, update_key)
    assert between.step == 1 and state.step == 2
    at_start, in_between, at_end = map(parts, (STATE, between, state))
    for name, part in in_between.items():
        assert moved(part, at_start[name]) == name.startswith("critic"), name
        assert moved(at_end[name], part), name

    start = jax.tree.map(jnp.copy, STATE)
    assert_close(learn(TD3_BC, CONFIG, DATASET, start, KEY, num_steps=2)[0], state)


def parts(state):
    """Its networks, parameters and optimisers apart."""
    networks = {name: field for name, field in state._asdict().items() if name != "step"}
    return {
        f"{name}/{part}": value
        for name, network in networks.items()
        for part, value in (
            network._asdict() if isinstance(network, Trainable) else {"params": network}
        ).items()
    }


def moved(after, before):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), after, before)))


@pytest.mark.parametrize(
    ("algorithm", "critics_alone"),
    [(TD3_BC, critic_update), (ALGORITHMS["rebrac"], rebrac_critic_update)],
)
def test_the_last_of_every_policy_delay_steps_moves_all(algorithm, critics_alone):
    for delay in (1, 2, 3):
        config = algorithm.Config(policy_delay=delay)
        ((updates, length, *_),) = phases_of(algorithm, config)
        assert updates == (*[critics_alone] * (delay - 1), algorithm.update) and length is None


def fitted(dataset, num_steps, **settings):
    config = TD3BCConfig(
        actor_learning_rate=1e-2,
        critic_learning_rate=1e-2,
        actor_network=MLP((16,)),
        critic_network=MLP((16,)),
        batch_size=32,
        **settings,
    )
    state = init(TD3_BC, config, dataset.spec, KEY)
    return config, learn(TD3_BC, config, dataset, state, KEY, num_steps=num_steps)[0]


def test_the_weight_decides_between_the_datas_mean_and_its_better_action():
    """Actions ±½ with rewards 1 and 2: cloning acts at 0, as nobody in the data did.

    Were Q = 1.5 + a, the loss with α = 2.5 would be least at a = 0.6, where α / Q = 2 a.
    """
    actions = np.tile([[-0.5], [0.5]], (64, 1))
    dataset = bandit(actions, 1.5 + actions[:, 0])
    acted = {}
    for weight in (0.0, 2.5):
        config, state = fitted(dataset, 300, q_weight=weight)
        acted[weight] = float(TD3_BC.act(config, state, jnp.zeros((1, 2)), None)[0, 0])
    assert abs(acted[0.0]) < 0.1 and acted[2.5] > 0.4


def test_values_of_a_two_state_chain():
    """Q(s₁) = 2 and Q(s₀) = 1 + 2γ, the second state a true end."""
    config, state = fitted(chain(), 600, discount=0.9, target_update_rate=0.1)
    np.testing.assert_allclose(
        TD3_BC.value(config, state, jnp.eye(2)), [1 + 0.9 * 2, 2.0], atol=0.1
    )


@pytest.mark.slow
def test_training_resumes_inside_a_cycle_to_rounding():
    whole = init(TD3_BC, CONFIG, DATASET.spec, KEY)
    whole, _ = learn(TD3_BC, CONFIG, DATASET, whole, KEY, num_steps=4)
    state = init(TD3_BC, CONFIG, DATASET.spec, KEY)
    for num_steps in (1, 3):
        state, _ = learn(TD3_BC, CONFIG, DATASET, state, KEY, num_steps=num_steps)
    assert_close(state, whole)
