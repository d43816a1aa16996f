"""BEAR: a whole step against NumPy, the dual's signs and clips, its phases, and staying in data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import init, learn
from offrl_jax.algorithms.base import phases_of
from offrl_jax.algorithms.bear import (
    BEARConfig,
    actor_loss,
    bear,
    next_state_value,
    sample_behavior,
)
from offrl_jax.networks.modules import MLP
from tests.arrays import bandit, random_dataset

KEY = jax.random.key(1)
DATASET = random_dataset(observation_size=4, action_size=2)
CONFIG = BEARConfig(
    behavior_network=MLP((8,)),
    actor_network=MLP((8,)),
    critic_network=MLP((8,)),
    num_critics=3,
    num_warmup_steps=3,
    num_action_samples=6,
    mmd_sigma=0.7,
    discount=0.9,
    target_update_rate=0.1,
    behavior_learning_rate=0.1,
    actor_learning_rate=0.1,
    critic_learning_rate=0.1,
)
NUM_ROWS = 7
BATCH = jax.tree.map(lambda x: x[:NUM_ROWS], DATASET.transitions)
BATCH = BATCH._replace(terminal=jnp.array([0.0, 1, 0, 0, 1, 0, 0]))
S, A, S_NEXT = (np.asarray(x, np.float64) for x in (BATCH[0], BATCH[1], BATCH.next_observation))
(UPDATE,) = phases_of(bear, CONFIG)[0].updates
update = jax.jit(UPDATE)
act = jax.jit(bear.act)


def started(config=CONFIG):
    """Random parameters, so that no two networks agree and no bias is 0, and fresh optimisers."""
    rng = np.random.default_rng(0)

    def filled(path, leaf):
        fresh = "opt_state" in jax.tree_util.keystr(path)
        numbers = np.zeros(leaf.shape) if fresh else rng.normal(0, 0.5, leaf.shape)
        return numbers.astype(leaf.dtype)

    shapes = jax.eval_shape(lambda: bear.init(config, DATASET.spec, KEY))
    state = jax.tree_util.tree_map_with_path(filled, shapes)
    return with_log_multiplier(state._replace(step=np.int32(3)), 0.4)


def with_log_multiplier(state, value):
    params = np.full(np.shape(state.step), value, np.float32)
    return state._replace(multiplier=state.multiplier._replace(params=params))


@pytest.fixture(scope="module")
def state():
    return started()


# The equations in NumPy, for networks of one hidden layer


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def gaussian(params, observation):
    mean, log_std = np.split(layers(double(params), observation), 2, -1)
    return mean, np.exp(np.clip(log_std, -5, 2))


def layers(p, x):
    first = p["network"]["Dense_0"]
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    return hidden @ p["head"]["kernel"] + p["head"]["bias"]


def layers_of_pair(p, observation, action):
    """(B, O) and (B, N, A) -> (B, N, F)."""
    tiled = np.broadcast_to(observation[:, None], (*action.shape[:2], observation.shape[1]))
    return layers(p, np.concatenate([tiled, action], -1))


def critics(params, observation, action):
    """(E, B, N)."""
    p = double(params)["members"]
    each = [jax.tree.map(lambda x, k=k: x[k], p) for k in range(len(p["head"]["bias"]))]
    return np.stack([layers_of_pair(one, observation, action)[..., 0] for one in each])


def half_normal(key, *shape):
    return np.clip(np.asarray(jax.random.normal(key, shape), np.float64), -0.5, 0.5)


def policy_samples(params, observation, num, key):
    mean, std = gaussian(params, observation)
    return mean[:, None] + std[:, None] * half_normal(key, len(mean), num, mean.shape[1])


def behavior_samples(config, params, observation, num, key):
    if config.behavior == "gaussian":
        return policy_samples(params, observation, num, key)
    latent = half_normal(key, len(observation), num, 4)
    return layers_of_pair(double(params)["decoder"], observation, latent)


def root_mmd(config, x, y):
    """Of one state's (N, A) and (M, A), by loops."""
    distance = {"laplacian": lambda d: abs(d).sum(), "gaussian": lambda d: (d**2).sum()}

    def mean(a, b):
        kernel = distance[config.mmd_kernel]
        return np.mean([[np.exp(-kernel(i - j) / (2 * config.mmd_sigma)) for j in b] for i in a])

    return np.sqrt(mean(x, x) + mean(y, y) - 2 * mean(x, y) + 1e-6)


def numpy_mmd(config, actor, state, key):
    policy_key, behavior_key = jax.random.split(key)
    u = policy_samples(actor, S, 4, policy_key)
    v = behavior_samples(config, state.behavior.params, S, 4, behavior_key)
    return u, np.mean([root_mmd(config, x, y) for x, y in zip(u, v, strict=True)])


def numpy_actor_loss(config, actor, state, key, *, with_q=True):
    u, mmd = numpy_mmd(config, actor, state, key)
    q = critics(state.critic.params, S, np.tanh(u)).mean(2).min(0).mean()
    return np.exp(float(state.multiplier.params)) * mmd - with_q * q


def numpy_next_value(state, key):
    action = np.tanh(policy_samples(state.target_actor, S_NEXT, 10, key))
    q = critics(state.target_critic, S_NEXT, action)
    return (0.75 * q.min(0) + 0.25 * q.max(0)).max(1)


def numpy_target(state, key):
    r, d = np.asarray(BATCH.reward), np.asarray(BATCH.terminal)
    return r + 0.9 * (1 - d) * numpy_next_value(state, key)


def numpy_critic_loss(critic, target):
    return np.square(critics(critic, S, A[:, None])[..., 0] - target).mean(1).sum()


def numpy_cvae_loss(cvae, key):
    p = double(cvae)
    encoded = layers_of_pair(p["encoder"], S, A[:, None])[:, 0]
    mean, log_std = np.split(encoded, 2, -1)
    std = np.exp(np.clip(log_std, -4, 15))
    latent = mean + std * np.asarray(jax.random.normal(key, mean.shape))
    decoded = np.tanh(layers_of_pair(p["decoder"], S, latent[:, None]))[:, 0]
    kl = (mean**2 + std**2 - 1) / 2 - np.log(std)
    return np.mean((decoded - A) ** 2) + 0.5 * np.mean(kl)


def assert_slope(gradient, loss, params, seed=0):
    """The gradient along a random direction is the loss' difference quotient."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    def shifted(h):
        return loss(jax.tree.map(lambda x, d: x + h * d, double(params), direction))

    slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(slope, rel=1e-3, abs=1e-4)


def first_gradient(trainable):
    """Adam's mean of gradients after one step is 0.1 of the gradient."""
    return jax.tree.map(lambda x: x / 0.1, double(trainable.opt_state[0].mu))


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )


# One step


@pytest.mark.parametrize(("step", "with_q"), [(2, False), (3, True)])
def test_a_step_trains_model_critics_actor_multiplier_and_targets_in_this_order(
    state, step, with_q
):
    """Each loss at the parameters of its turn: the critics' target at the old ones, the actor's at
    the new model and critics."""
    old = state._replace(step=np.int32(step))
    new, metrics = update(CONFIG, old, BATCH, KEY)
    behavior_key, key = jax.random.split(KEY)
    next_key, actor_key = jax.random.split(key)

    assert metrics["behavior/loss"] == pytest.approx(
        numpy_cvae_loss(old.behavior.params, behavior_key), rel=1e-4
    )
    target = numpy_target(old, next_key)
    loss = numpy_critic_loss(old.critic.params, target)
    assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-4)
    turn = old._replace(behavior=new.behavior, critic=new.critic)
    mmd = numpy_mmd(CONFIG, old.actor.params, turn, actor_key)[1]
    assert metrics["actor/mmd"] == pytest.approx(mmd, rel=1e-4)
    expected = numpy_actor_loss(CONFIG, old.actor.params, turn, actor_key, with_q=with_q)
    assert metrics["actor/loss"] == pytest.approx(expected, rel=1e-4)

    losses = {
        "behavior": lambda p: numpy_cvae_loss(p, behavior_key),
        "critic": lambda p: numpy_critic_loss(p, target),
        "actor": lambda p: numpy_actor_loss(CONFIG, p, turn, actor_key, with_q=with_q),
        "multiplier": lambda p: -np.exp(p) * (mmd - CONFIG.mmd_threshold),
    }
    for name, loss in losses.items():
        before, after = getattr(old, name), getattr(new, name)
        gradient, rate = first_gradient(after), getattr(CONFIG, f"{name}_learning_rate")
        before = double(before.params)
        assert_slope(gradient, loss, before)
        adam = jax.tree.map(lambda p, g, r=rate: p - r * g / (abs(g) + 1e-8), before, gradient)
        assert_close(after.params, adam)
    for name in ("actor", "critic"):
        before, online = double(getattr(old, f"target_{name}")), double(getattr(new, name).params)
        followed = jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, before, online)
        assert_close(getattr(new, f"target_{name}"), followed)
    assert new.step == step + 1


def test_the_target_is_the_best_mixed_value_of_ten_target_actions_at_the_next_state(state):
    value = jax.jit(next_state_value)(CONFIG, state, BATCH, KEY)
    np.testing.assert_allclose(value, numpy_next_value(state, KEY), rtol=1e-4, atol=1e-5)


def test_the_actor_starts_on_q_after_the_steps_of_the_model_and_of_the_warm_up():
    """And with a Gaussian model of the data, whose kernel here is the other one."""
    config = dataclasses.replace(
        CONFIG, behavior="gaussian", mmd_kernel="gaussian", num_behavior_steps=4
    )
    state = started(config)
    loss_and_gradient = jax.jit(jax.value_and_grad(actor_loss, argnums=1, has_aux=True))
    for step in (0, 6, 7, 100):
        state = state._replace(step=np.int32(step))
        (loss, _), gradient = loss_and_gradient(config, state.actor.params, state, BATCH, KEY)

        def expected(actor, state=state, with_q=step >= 4 + 3):
            return numpy_actor_loss(config, actor, state, KEY, with_q=with_q)

        assert loss == pytest.approx(expected(state.actor.params), rel=1e-4)
        assert_slope(gradient, expected, state.actor.params)


# The multiplier


@pytest.mark.parametrize(
    ("log_multiplier", "threshold", "after", "at_clip"),
    [
        (0.4, 0.0, 0.41, 0),  # the MMD is above ε: rises
        (0.4, 9.0, 0.39, 0),
        (10.0, 0.0, 10.0, 1),
        (9.995, 0.0, 10.0, 1),
        (10.0, 9.0, 9.99, 0),
        (-5.0, 9.0, -5.0, 1),
        (-4.995, 9.0, -5.0, 1),
        (-5.0, 0.0, -4.99, 0),
    ],
)
def test_the_multiplier_rises_above_the_threshold_and_falls_below_within_its_clip(
    state, log_multiplier, threshold, after, at_clip
):
    config = dataclasses.replace(CONFIG, mmd_threshold=threshold, multiplier_learning_rate=0.01)
    old = with_log_multiplier(state, log_multiplier)
    new, metrics = update(config, old, BATCH, KEY)
    assert 0 < metrics["actor/mmd"] < 9
    assert new.multiplier.params == pytest.approx(after, abs=1e-5)
    assert metrics["actor/multiplier_at_clip"] == at_clip
    assert metrics["actor/multiplier"] == pytest.approx(np.exp(after), rel=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 9.0])
def test_without_a_learning_rate_the_multiplier_stays(state, threshold):
    config = dataclasses.replace(CONFIG, mmd_threshold=threshold, multiplier_learning_rate=0.0)
    new, metrics = update(config, state, BATCH, KEY)
    assert new.multiplier.params == state.multiplier.params
    assert metrics["actor/multiplier_at_clip"] == 0


# Acting


def test_acting_takes_the_sample_that_the_first_critic_likes_best(state):
    taken = act(CONFIG, state, BATCH.observation, KEY)
    candidates = np.tanh(policy_samples(state.actor.params, S, 6, KEY))
    q = critics(state.critic.params, S, candidates)
    best = q[0].argmax(1)
    assert (best != q.min(0).argmax(1)).any() and (best != q.mean(0).argmax(1)).any()
    np.testing.assert_allclose(taken, candidates[np.arange(NUM_ROWS), best], rtol=1e-4, atol=1e-5)


def test_acting_without_a_key_depends_on_the_state_alone_and_is_what_the_value_is_of(state):
    together = act(CONFIG, state, BATCH.observation, None)
    alone = [act(CONFIG, state, BATCH.observation[i : i + 1], None)[0] for i in range(NUM_ROWS)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5, atol=1e-6)
    one_state = jnp.repeat(BATCH.observation[:1], NUM_ROWS, axis=0)
    assert np.ptp(act(CONFIG, state, one_state, KEY), axis=0).max() > 1e-3
    q = critics(state.critic.params, S, np.asarray(together)[:, None])[..., 0]
    value = jax.jit(bear.value)(CONFIG, state, BATCH.observation)
    np.testing.assert_allclose(value, q.min(0), rtol=1e-4, atol=1e-5)


# Training: actions near −0.5 only, and rewards that rise to the right of them

ACTION = np.random.default_rng(0).normal(-0.5, 0.05, (512, 1)).clip(-1, 1)
NARROW = bandit(ACTION, 4 * (ACTION[:, 0] + 0.5))
PRETRAINED = dataclasses.replace(
    CONFIG,
    num_behavior_steps=150,
    num_warmup_steps=0,
    mmd_sigma=1.0,
    behavior_learning_rate=1e-2,
    actor_learning_rate=1e-2,
    critic_learning_rate=1e-2,
    batch_size=64,
)


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


@pytest.fixture(scope="module", params=["cvae", "gaussian"])
def pretrained(request):
    config = dataclasses.replace(PRETRAINED, behavior=request.param)
    fresh = init(bear, config, NARROW.spec, KEY)
    kept = jax.tree.map(np.array, fresh)
    state, metrics = learn(bear, config, NARROW, fresh, KEY, num_steps=150)
    return config, kept, jax.tree.map(np.array, state), metrics


def test_pretraining_fits_the_model_alone(pretrained):
    config, fresh, state, metrics = pretrained
    assert all(name.startswith("behavior/") for name in metrics)
    for name in set(fresh._fields) - {"step", "behavior"}:
        assert equal(getattr(state, name), getattr(fresh, name)), name
    observation = jnp.zeros((100, 2))
    samples = np.tanh(jax.jit(sample_behavior)(config, state.behavior.params, observation, KEY))
    assert samples.mean() == pytest.approx(-0.5, abs=0.03)
    assert samples.std() < 0.1


@pytest.mark.slow
def test_the_frozen_model_keeps_the_actor_at_the_data_where_q_extrapolates():
    """Without α the actor leaves them, how far depends on the seed."""
    keys = jax.random.split(KEY, 8)
    fresh = init(bear, PRETRAINED, NARROW.spec, keys)
    state, _ = learn(bear, PRETRAINED, NARROW, fresh, keys, num_steps=150)
    state = jax.tree.map(np.array, state)
    distance = {}
    for log_multiplier, rate in ((-5.0, 0.0), (3.0, 1e-2)):
        setting = dataclasses.replace(PRETRAINED, multiplier_learning_rate=rate)
        start = with_log_multiplier(state, log_multiplier)
        after, _ = learn(bear, setting, NARROW, start, keys, num_steps=300)
        assert (after.step == 450).all()
        assert equal(after.behavior, state.behavior)
        taken = jax.vmap(lambda state: bear.act(PRETRAINED, state, jnp.zeros((1, 2)), None))(after)
        distance[rate] = abs(np.ravel(taken) + 0.5)
    assert distance[0.0].max() > 1.0 and distance[0.0].mean() > 0.5
    assert distance[1e-2].max() < 0.15
