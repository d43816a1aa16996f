"""BCQ against NumPy: the perturbation, the target, a whole step, acting, and its two phases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.base import phases_of
from offrl_jax.algorithms.bcq import (
    BCQConfig,
    actor_loss,
    candidates,
    next_state_value,
    perturbed,
)
from offrl_jax.algorithms.common.behavior import cvae_loss, sample_cvae
from offrl_jax.networks.heads import critic_values, outputs
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from tests.arrays import bandit, random_dataset
from tests.networks.test_modules import filled, numpy_critics, numpy_state_action_mlp

BCQ = ALGORITHMS["bcq"]
DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[30:42], DATASET.transitions)  # has a true end
KEY = jax.random.key(2)
NETWORK = MLP((8,))
CONFIG = BCQConfig(
    discount=0.9,
    target_update_rate=0.1,
    max_perturbation=0.3,
    minimum_weight=0.6,
    num_target_actions=4,
    num_action_samples=7,
    # Large, so that parameters before a step and after it are told apart.
    behavior_learning_rate=0.1,
    actor_learning_rate=0.1,
    critic_learning_rate=0.1,
    num_critics=3,
    behavior_network=NETWORK,
    actor_network=NETWORK,
    critic_network=NETWORK,
    batch_size=8,
)
START = init(BCQ, CONFIG, DATASET.spec, jax.random.key(0))
# Every network another one, with outputs of order 1.
STATE = START._replace(
    behavior=START.behavior._replace(params=filled(START.behavior.params, 0)),
    actor=START.actor._replace(params=filled(START.actor.params, 1)),
    target_actor=filled(START.target_actor, 2),
    critic=START.critic._replace(params=filled(START.critic.params, 3)),
    target_critic=filled(START.target_critic, 4),
)
BEHAVIOR, ACTOR, CRITIC = STATE.behavior.params, STATE.actor.params, STATE.critic.params
update, act = jax.jit(BCQ.update), jax.jit(BCQ.act)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )


def numpy_candidates(behavior, actor, observation, key, num):
    """clip( a + Φ tanh(·) ) of decoded actions a, from normal latents clipped to ±½."""
    latent = np.clip(np.asarray(jax.random.normal(key, (len(observation), num, 6))), -0.5, 0.5)
    action = np.tanh(numpy_state_action_mlp(behavior["decoder"], observation, latent))
    shift = 0.3 * np.tanh(numpy_state_action_mlp(actor, observation, action))
    return np.clip(action + shift, -1, 1)


def numpy_next_value(behavior, key):
    """max_j { λ min_k + (1 − λ) max_k } of the target critics, by loops."""
    observation = np.asarray(BATCH.next_observation)
    action = numpy_candidates(behavior, STATE.target_actor, observation, key, 4)
    q = numpy_critics(STATE.target_critic, observation, action)
    mixed = [
        [0.6 * min(q[:, b, j]) + 0.4 * max(q[:, b, j]) for j in range(4)]
        for b in range(len(observation))
    ]
    return np.array([max(row) for row in mixed])


def test_without_perturbation_the_models_actions_stay_exactly_as_they_are():
    config = dataclasses.replace(CONFIG, max_perturbation=0.0)
    own = candidates(config, STATE, ACTOR, BATCH.observation, num_candidates=5, key=KEY)
    model = sample_cvae(NETWORK, BEHAVIOR, BATCH.observation, num_samples=5, key=KEY)
    assert_equal(own, jnp.tanh(model))


def test_no_action_moves_further_than_the_limit_or_leaves_the_bounds():
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (12, 4, 3)).astype(np.float32)
    large = jax.tree.map(lambda x: 3 * x, ACTOR)
    after = np.asarray(perturbed(CONFIG, large, BATCH.observation, jnp.asarray(action)))
    shift = 0.3 * np.tanh(numpy_state_action_mlp(large, BATCH.observation, action))
    np.testing.assert_allclose(after, np.clip(action + shift, -1, 1), atol=1e-5)
    assert 0.29 < np.abs(after - action).max() <= 0.3 + 1e-6
    assert np.abs(after).max() == 1.0


def test_the_next_value_is_the_best_candidates_mix_of_least_and_greatest_critic():
    value = next_state_value(CONFIG, STATE, BATCH, KEY)
    np.testing.assert_allclose(value, numpy_next_value(BEHAVIOR, KEY), rtol=1e-4, atol=1e-5)


def test_actor_loss_is_the_first_critic_of_one_perturbed_action():
    action = numpy_candidates(BEHAVIOR, ACTOR, np.asarray(BATCH.observation), KEY, 1)
    q = numpy_critics(CRITIC, BATCH.observation, action[:, 0])
    loss, _ = actor_loss(CONFIG, ACTOR, STATE, BATCH, KEY)
    assert float(loss) == pytest.approx(-q[0].mean(), rel=1e-4)


def test_a_whole_step_equals_one_written_out():
    """Model, critics (their target from the new model), perturbation (both new), targets."""
    behavior_key, key = jax.random.split(KEY)
    next_key, actor_key = jax.random.split(key)
    new, metrics = update(CONFIG, STATE, BATCH, KEY)

    behavior = adam(lambda b: cvae_loss(CONFIG, b, BATCH, behavior_key)[0], STATE.behavior)

    next_value = numpy_next_value(behavior.params, next_key)
    assert 0 < BATCH.terminal.sum() < 12
    target = np.asarray(BATCH.reward) + 0.9 * np.where(BATCH.terminal, 0.0, next_value)
    q = numpy_critics(CRITIC, BATCH.observation, BATCH.action)
    loss = sum(np.mean((q[k] - target) ** 2) for k in range(3))
    assert float(metrics["critic/loss"]) == pytest.approx(loss, rel=1e-4)

    def critic_objective(critic):
        q = critic_values(NETWORK, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - jnp.asarray(target, jnp.float32)) ** 2) for k in range(3))

    critic = adam(critic_objective, STATE.critic)

    latent = jnp.clip(jax.random.normal(actor_key, (12, 1, 6)), -0.5, 0.5)[:, 0]
    model = jnp.tanh(outputs(NETWORK, behavior.params["decoder"], BATCH.observation, latent))

    def actor_objective(actor):
        action = model + 0.3 * jnp.tanh(outputs(NETWORK, actor, BATCH.observation, model))
        action = jnp.clip(action, -1, 1)
        return -jnp.mean(critic_values(NETWORK, critic.params, BATCH.observation, action)[0])

    actor = adam(actor_objective, STATE.actor)
    target_actor, target_critic = (
        jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, *pair)
        for pair in (
            (STATE.target_actor, actor.params),
            (STATE.target_critic, critic.params),
        )
    )
    assert_close(
        new,
        type(STATE)(
            step=jnp.int32(1),
            behavior=behavior,
            actor=actor,
            target_actor=target_actor,
            critic=critic,
            target_critic=target_critic,
        ),
    )


def adam(objective, trainable):
    """The moments are compared too: a first step of Adam's alone shows only the gradient's sign."""
    params, moments = trainable
    step, moments = optax.adam(0.1).update(jax.jit(jax.grad(objective))(params), moments)
    return Trainable(optax.apply_updates(params, step), moments)


@pytest.mark.parametrize("key", [None, KEY])
def test_acting_takes_the_candidate_that_the_first_critic_likes_most(key):
    choice = jax.jit(candidates, static_argnames="num_candidates")(
        CONFIG, STATE, ACTOR, BATCH.observation, num_candidates=7, key=key
    )
    q = numpy_critics(CRITIC, BATCH.observation, choice)
    best = q[0].argmax(axis=1)
    assert (best != q.min(axis=0).argmax(axis=1)).any() and len(set(best)) > 1
    action = act(CONFIG, STATE, BATCH.observation, key)
    np.testing.assert_allclose(action, np.asarray(choice)[np.arange(12), best], atol=1e-6)
    if key is None:
        value = jax.jit(BCQ.value)(CONFIG, STATE, BATCH.observation)
        expected = q.min(axis=0)[np.arange(12), best]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_acting_is_a_function_of_the_state_unless_a_key_makes_it_draw():
    one_state = jnp.repeat(BATCH.observation[:1], 4, axis=0)
    alone = act(CONFIG, STATE, BATCH.observation[:1], None)
    np.testing.assert_allclose(act(CONFIG, STATE, one_state, None)[3:], alone, atol=1e-6)
    np.testing.assert_allclose(act(CONFIG, STATE, BATCH.observation, None)[:1], alone, atol=1e-6)
    drawn = [act(CONFIG, STATE, one_state, jax.random.key(i)) for i in range(2)]
    assert (drawn[0] != drawn[1]).all() and (drawn[0][0] != drawn[0][1]).all()


def test_pretraining_moves_only_the_model_which_then_stays():
    config = dataclasses.replace(CONFIG, num_behavior_steps=2)
    states = [jax.tree.map(jnp.copy, START)]
    for _ in range(2):
        state = jax.tree.map(jnp.copy, states[-1])
        states.append(learn(BCQ, config, DATASET, state, KEY, num_steps=2)[0])
    model = {"behavior"}
    for before, after, moving in ((*states[:2], model), (*states[1:], set(START._fields) - model)):
        assert after.step == before.step + 2
        for name in set(START._fields) - {"step"}:
            if name in moving:
                old, new = (as_pair(getattr(state, name)) for state in (before, after))
                assert all(map(moved, new, old)), name
            else:
                assert_equal(getattr(after, name), getattr(before, name))


def as_pair(field):
    """Parameters and moments, or parameters alone."""
    return field if isinstance(field, Trainable) else (field,)


def moved(after, before):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), after, before)))


def test_without_pretraining_every_step_is_a_whole_one():
    ((updates, length, *_),) = phases_of(BCQ, CONFIG)
    assert updates == (BCQ.update,) and length is None


@pytest.fixture(scope="module")
def two_actions():
    """One state, actions −0.9 and 0.3, a reward that grows with them."""
    action = np.tile([[-0.9], [0.3]], (128, 1))
    return bandit(action, 4 * action[:, 0])


@pytest.fixture(scope="module")
def trained(two_actions):
    """Configs and states by Φ: hardly any perturbation, or all of it."""
    runs = {}
    for limit in (0.05, 2.0):
        config = BCQConfig(
            max_perturbation=limit,
            num_behavior_steps=300,
            behavior_learning_rate=1e-2,
            actor_learning_rate=1e-2,
            critic_learning_rate=1e-2,
            behavior_network=MLP((16, 16)),
            actor_network=MLP((16,)),
            critic_network=MLP((16, 16)),
            batch_size=64,
        )
        state = init(BCQ, config, two_actions.spec, KEY)
        runs[limit] = config, learn(BCQ, config, two_actions, state, KEY, num_steps=600)[0]
    return runs


def test_the_model_keeps_actions_apart_that_no_regression_could(trained, two_actions):
    """A function of the state alone errs by the actions' variance 0.36 at least."""
    config, state = trained[0.05]
    model = state.behavior.params
    _, metrics = jax.jit(cvae_loss)(config, model, two_actions.transitions, KEY)
    assert metrics["behavior/reconstruction"] < 0.36 / 2
    sample = jax.jit(sample_cvae, static_argnames=("network", "num_samples"))
    network = config.behavior_network
    sampled = np.tanh(sample(network, model, jnp.zeros((1, 2)), num_samples=500, key=KEY))
    assert (sampled < -0.6).mean() > 0.3 and (sampled > 0.0).mean() > 0.3


def test_it_acts_with_the_datas_better_action_unless_perturbed_away(trained):
    acted = {
        limit: float(act(config, state, jnp.zeros((1, 2)), None)[0, 0])
        for limit, (config, state) in trained.items()
    }
    assert abs(acted[0.05] - 0.3) < 0.15
    assert acted[2.0] > 0.9  # where Q extrapolates to and no data are
