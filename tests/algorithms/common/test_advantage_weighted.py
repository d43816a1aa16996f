"""What AWAC, CRR and ABM share, against NumPy: target, advantage, a whole step, targets, acting."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offrl_jax.algorithms.common import advantage_weighted
from offrl_jax.algorithms.common.advantage_weighted import advantage, policy_of, value_target
from offrl_jax.algorithms.crr import CRRConfig  # it adds `num_action_samples`
from offrl_jax.losses.regression import softmax_weight
from offrl_jax.networks.heads import critic_values
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_critics, numpy_mlp, numpy_policy

DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[15:45], DATASET.transitions)  # a time-out and a true end
S, NEXT_S = (np.asarray(x, np.float64) for x in (BATCH.observation, BATCH.next_observation))
KEY = jax.random.key(1)
NETWORK = MLP((8,))
POLICIES = ["tanh_mean", "tanh_gaussian"]
CONFIGS = {
    policy: CRRConfig(
        discount=0.9,
        policy=policy,
        baseline="mean",
        num_baseline_samples=5,
        num_target_actions=4,
        num_action_samples=1,
        target_update_rate=0.1,
        target_update_period=1,
        # Large, so that parameters before a step and after it are told apart.
        actor_learning_rate=0.05,
        critic_learning_rate=0.1,
        num_critics=3,
        actor_network=NETWORK,
        critic_network=NETWORK,
    )
    for policy in POLICIES
}


def init(config):
    return advantage_weighted.init(config, DATASET.spec, KEY, has_target_actor=True)


def started(init):
    """The state with random networks, no two alike, fresh optimisers and other numbers 1; nothing
    is compiled."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if shape.dtype == jnp.int32 or "opt_state" in jax.tree_util.keystr(path):
            return jnp.zeros(shape.shape, shape.dtype)
        numbers = rng.normal(0, 0.5, shape.shape) if shape.ndim else 1.0
        return jnp.asarray(numbers, shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(init))


STATES = {policy: started(partial(init, config)) for policy, config in CONFIGS.items()}


def numpy_moments(policy, actor, observation):
    """Mean and standard deviation of the policy's Gaussian, before a tanh of its samples."""
    if policy == "tanh_mean":
        mean = numpy_policy(actor["mean"], observation)
        log_std = np.broadcast_to(np.asarray(actor["log_std"], np.float64), mean.shape)
    else:
        moments = numpy_mlp(actor, np.asarray(observation, np.float64))
        mean, log_std = np.split(moments, 2, axis=-1)
    return mean, np.exp(np.clip(log_std, -5, 2))


def numpy_actions(policy, actor, observation, noise):
    """N actions a state for normals (B, N, A)."""
    mean, std = numpy_moments(policy, actor, observation)
    action = mean[:, None] + std[:, None] * np.asarray(noise, np.float64)
    return np.clip(action, -1, 1) if policy == "tanh_mean" else np.tanh(action)


def numpy_log_prob(policy, actor, observation, action):
    mean, std = numpy_moments(policy, actor, observation)
    action = np.asarray(action, np.float64)
    if policy == "tanh_mean":
        point, log_jacobian = action, 0.0
    else:
        action = np.clip(action, -0.999, 0.999)
        point, log_jacobian = np.arctanh(action), np.log(1 - action**2)
    log_normal = -0.5 * ((point - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))
    return np.sum(log_normal - log_jacobian, axis=-1)


def numpy_target(policy, actor, target_critic, key, num):
    """r + γ (1 − d) mean_j min_k Q̄_k(s′, a′_j), γ = 0.9."""
    noise = jax.random.normal(key, (30, num, 3))
    q = numpy_critics(target_critic, NEXT_S, numpy_actions(policy, actor, NEXT_S, noise))
    next_value = np.array([np.mean([min(q[:, b, j]) for j in range(num)]) for b in range(30)])
    return np.asarray(BATCH.reward) + 0.9 * np.where(BATCH.terminal, 0.0, next_value)


def numpy_advantage(policy, baseline, actor, critic, key, num):
    """min_k Q_k(s, a) less the baseline."""
    if baseline == "mode":
        mean, _ = numpy_moments(policy, actor, S)
        action = mean if policy == "tanh_mean" else np.tanh(mean)
        value = numpy_critics(critic, S, action).min(axis=0)
    else:
        action = numpy_actions(policy, actor, S, jax.random.normal(key, (30, num, 3)))
        q = numpy_critics(critic, S, action).min(axis=0)
        value = {"mean": q.mean(axis=1), "max": q.max(axis=1)}[baseline]
    return numpy_critics(critic, S, BATCH.action).min(axis=0) - value


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )


def adam(objective, trainable, rate):
    """Parameters and moments after a step: a first step's parameters alone show only the gradient's
    sign."""

    def step(trainable):
        change, moments = optax.adam(rate).update(
            jax.grad(objective)(trainable.params), trainable.opt_state
        )
        return Trainable(optax.apply_updates(trainable.params, change), moments)

    return jax.jit(step)(trainable)


@pytest.mark.parametrize(
    ("policy", "source"), [("tanh_mean", "actor"), ("tanh_gaussian", "target_actor")]
)
def test_the_target_is_the_mean_over_next_actions_of_the_least_target_critic(policy, source):
    """Of the target actor's actions, or of the actor's where there is no target actor."""
    state = STATES[policy]
    actor = {"actor": state.actor.params, "target_actor": state.target_actor}[source]
    expected = numpy_target(policy, actor, state.target_critic, KEY, 4)
    if source == "actor":
        state = state._replace(target_actor=None)
    target = jax.jit(value_target)(CONFIGS[policy], state, BATCH, KEY)
    assert 0 < BATCH.terminal.sum() < 30 - BATCH.next_action_valid.sum()  # a time-out, too
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", ["mean", "max", "mode"])
def test_the_advantage_is_over_the_actors_own_value(baseline):
    policy = "tanh_gaussian"
    state = STATES[policy]
    config = dataclasses.replace(CONFIGS[policy], baseline=baseline)
    expected = numpy_advantage(policy, baseline, state.actor.params, state.critic.params, KEY, 5)
    np.testing.assert_allclose(
        jax.jit(advantage)(config, state, BATCH, KEY), expected, rtol=1e-4, atol=1e-5
    )


def test_critic_loss_sums_mean_squared_errors_over_critics():
    target = np.random.default_rng(0).normal(size=30)
    critic = STATES["tanh_mean"].critic.params
    loss, metrics = advantage_weighted.critic_loss(
        CONFIGS["tanh_mean"], critic, BATCH, jnp.asarray(target, jnp.float32)
    )
    q = numpy_critics(critic, S, BATCH.action)
    assert float(loss) == pytest.approx(sum(np.mean((q[k] - target) ** 2) for k in range(3)))
    assert float(metrics["critic/q"]) == pytest.approx(q.mean(), abs=1e-6)


def test_a_whole_step_equals_one_written_out():
    """Both gradients at the old parameters, then the targets towards the new ones."""
    policy = "tanh_gaussian"
    config, state = CONFIGS[policy], STATES[policy]
    weight_of = lambda config, advantage: jnp.square(advantage) + 0.1  # noqa: E731
    after, metrics = jax.jit(advantage_weighted.update, static_argnums=4)(
        config, state, BATCH, KEY, weight_of
    )
    target_key, advantage_key = jax.random.split(KEY)
    target = numpy_target(policy, state.target_actor, state.target_critic, target_key, 4)
    actor, critic = state.actor.params, state.critic.params
    gain = numpy_advantage(policy, "mean", actor, critic, advantage_key, 5)
    weight = gain**2 + 0.1
    log_prob = numpy_log_prob(policy, actor, S, BATCH.action)
    assert float(metrics["actor/loss"]) == pytest.approx(-np.mean(weight * log_prob), rel=1e-4)
    assert float(metrics["actor/advantage"]) == pytest.approx(gain.mean(), rel=1e-4)
    assert float(metrics["actor/weight"]) == pytest.approx(weight.mean(), rel=1e-4)

    def critic_objective(critic):
        q = critic_values(NETWORK, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - jnp.asarray(target, jnp.float32)) ** 2) for k in range(3))

    def actor_objective(actor):
        log_prob = policy_of(config, actor, BATCH.observation).log_prob(BATCH.action)
        return -jnp.mean(jnp.asarray(weight, jnp.float32) * log_prob)

    critic = adam(critic_objective, state.critic, 0.1)
    actor = adam(actor_objective, state.actor, 0.05)
    target_actor, target_critic = (
        jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, *pair)
        for pair in ((state.target_actor, actor.params), (state.target_critic, critic.params))
    )
    assert_close(
        after,
        type(state)(
            step=jnp.int32(1),
            actor=actor,
            target_actor=target_actor,
            critic=critic,
            target_critic=target_critic,
        ),
    )


def test_no_gradient_of_the_actors_loss_reaches_weights_or_the_critics_behind_them():
    config, state = CONFIGS["tanh_mean"], STATES["tanh_mean"]

    def loss(actor, critic, behind):
        replaced = state._replace(
            actor=state.actor._replace(params=behind), critic=state.critic._replace(params=critic)
        )
        gain = advantage(config, replaced, BATCH, KEY)
        return advantage_weighted.actor_loss(config, actor, BATCH, softmax_weight(gain))[0]

    actor, critic = state.actor.params, state.critic.params
    own, *others = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(actor, critic, actor)
    assert all(jnp.abs(x).max() > 0 for x in jax.tree.leaves(own))
    assert_equal(others, jax.tree.map(jnp.zeros_like, [critic, actor]))


@pytest.mark.parametrize("has_target_actor", [True, False])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_targets_follow_only_every_period_and_with_rate_one_are_copies(rate, has_target_actor):
    config = dataclasses.replace(
        CONFIGS["tanh_mean"], target_update_rate=rate, target_update_period=3
    )
    state = STATES["tanh_mean"]
    state = state if has_target_actor else state._replace(target_actor=None)
    for step in range(1, 7):
        actor, critic = (
            trainable._replace(params=filled(trainable.params, step))
            for trainable in (state.actor, state.critic)
        )
        before, state = state, update_targets(config, state, actor, critic)
        assert state.step == step
        assert_equal((state.actor, state.critic), (actor, critic))
        for target, network in (("target_actor", actor), ("target_critic", critic)):
            old, new, online = getattr(before, target), getattr(state, target), network.params
            if step % 3:
                assert_equal(new, old)
            elif old is not None:
                averaged = jax.tree.map(lambda t, o: (1 - rate) * t + rate * o, old, online)
                assert_close(new, averaged)
    assert (state.target_actor is None) != has_target_actor


update_targets = jax.jit(advantage_weighted.update_targets)


def test_training_starts_with_targets_equal_to_their_networks_and_critics_apart():
    fresh = jax.jit(init)(CONFIGS["tanh_mean"])
    actor, critic = fresh.actor.params, fresh.critic.params
    assert_equal((fresh.target_actor, fresh.target_critic), (actor, critic))
    q = numpy_critics(critic, S, BATCH.action)
    assert np.abs(q[0] - q[1]).min() > 0 and np.abs(q[1] - q[2]).min() > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_acting_is_the_actors_mode_or_a_sample_and_its_value_the_least_critic(policy):
    config, state = CONFIGS[policy], STATES[policy]
    actor, critic = state.actor.params, state.critic.params
    mean, _ = numpy_moments(policy, actor, S)
    mode = mean if policy == "tanh_mean" else np.tanh(mean)
    act = jax.jit(advantage_weighted.act)
    np.testing.assert_allclose(act(config, state, BATCH.observation, None), mode, atol=1e-5)
    drawn = numpy_actions(policy, actor, S, jax.random.normal(KEY, (30, 1, 3)))[:, 0]
    np.testing.assert_allclose(act(config, state, BATCH.observation, KEY), drawn, atol=1e-5)
    value = jax.jit(advantage_weighted.value)(config, state, BATCH.observation)
    np.testing.assert_allclose(value, numpy_critics(critic, S, mode).min(axis=0), atol=1e-4)


choose = jax.jit(advantage_weighted.critic_weighted_act)


@pytest.mark.parametrize("key", [None, KEY])
def test_one_action_sample_is_acting_without_the_critics(key):
    config, state = CONFIGS["tanh_gaussian"], STATES["tanh_gaussian"]
    chosen = choose(config, state, BATCH.observation, key)
    assert_equal(chosen, jax.jit(advantage_weighted.act)(config, state, BATCH.observation, key))


def test_without_a_key_the_best_candidate_is_taken_a_function_of_the_state_alone():
    policy = "tanh_mean"
    config = dataclasses.replace(CONFIGS[policy], num_action_samples=6)
    state = STATES[policy]
    noise = np.repeat(jax.random.normal(jax.random.key(0), (1, 6, 3)), 30, axis=0)
    action = numpy_actions(policy, state.actor.params, S, noise)
    best = numpy_critics(state.critic.params, S, action).min(axis=0).argmax(axis=1)
    assert len(set(best)) > 1
    chosen = choose(config, state, BATCH.observation, None)
    np.testing.assert_allclose(chosen, action[np.arange(30), best], atol=1e-5)
    reversed_order = choose(config, state, BATCH.observation[::-1], None)
    np.testing.assert_allclose(reversed_order[::-1], chosen, atol=1e-6)


def with_larger_values(state):
    members = state.critic.params["members"]
    head = jax.tree.map(lambda x: 8 * x, members["head"])
    critic = {"members": members | {"head": head}}
    return state._replace(critic=state.critic._replace(params=critic))


def test_with_a_key_candidates_are_drawn_in_proportion_to_the_exponential_of_q():
    """Many draws at one state: how often the best, second and third of three was taken."""
    config = dataclasses.replace(CONFIGS["tanh_gaussian"], num_action_samples=3)
    state, num_draws = with_larger_values(STATES["tanh_gaussian"]), 4000
    observation = jnp.repeat(BATCH.observation[:1], num_draws, axis=0)
    chosen = np.asarray(choose(config, state, observation, KEY))
    noise = jax.random.normal(jax.random.split(KEY)[0], (num_draws, 3, 3))
    action = numpy_actions("tanh_gaussian", state.actor.params, observation, noise)
    q = numpy_critics(state.critic.params, observation, action).min(axis=0)
    distance = np.abs(action - chosen[:, None]).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-5

    order = np.argsort(-q, axis=1)
    taken = np.take_along_axis(distance == distance.min(axis=1, keepdims=True), order, axis=1)
    probability = np.exp(np.take_along_axis(q, order, axis=1))
    probability /= probability.sum(axis=1, keepdims=True)
    assert 0.45 < probability[:, 0].mean() < 0.9  # neither uniform nor the maximum
    np.testing.assert_allclose(taken.mean(axis=0), probability.mean(axis=0), atol=0.03)
