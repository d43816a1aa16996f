"""ReBRAC's penalties against NumPy, and its relation to TD3+BC.

`tests/algorithms/common/test_twin_delayed.py` has what its step shares with TD3+BC's.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init
from offrl_jax.algorithms.rebrac import (
    ReBRACConfig,
    actor_loss,
    critic_update,
    penalized_next_state_value,
)
from offrl_jax.algorithms.td3_bc import TD3BCConfig
from offrl_jax.algorithms.td3_bc import actor_loss as td3_bc_actor_loss
from offrl_jax.algorithms.td3_bc import critic_update as td3_bc_critic_update
from offrl_jax.networks.heads import deterministic_policy
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset
from tests.networks.test_modules import filled, numpy_critics, numpy_policy

REBRAC = ALGORITHMS["rebrac"]
DATASET = random_dataset()
# A time-out and a true end, each without a next action, among ordinary transitions.
BATCH = jax.tree.map(lambda x: x[15:45], DATASET.transitions)
CONFIG = ReBRACConfig(
    actor_bc_weight=0.7,
    critic_bc_weight=0.3,
    num_critics=3,
    actor_network=MLP((8,)),
    critic_network=MLP((8,), layer_norm=True),
)
START = init(REBRAC, CONFIG, DATASET.spec, jax.random.key(0))
ACTOR, CRITIC = filled(START.actor.params, 0), filled(START.critic.params, 11)
STATE = START._replace(
    actor=START.actor._replace(params=ACTOR),
    target_actor=filled(START.target_actor, 1),
    critic=START.critic._replace(params=CRITIC),
    target_critic=filled(START.target_critic, 3),
)
KEY = jax.random.key(2)
critic_step, whole_step = jax.jit(critic_update), jax.jit(REBRAC.update)
gradient_of = jax.jit(jax.grad(lambda *args: actor_loss(*args)[0], argnums=1))


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), actual, expected
    )


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def cloning_gradient(actor):
    """Of the mean over the batch of the squared error summed over dimensions."""

    def error(actor):
        action = deterministic_policy(CONFIG.actor_network, actor, BATCH.observation)
        return jnp.mean(jnp.sum((action - BATCH.action) ** 2, axis=1))

    return jax.jit(jax.grad(error))(actor)


def numpy_next_value(next_action):
    """min_k Q̄_k(s′, ã′) − β₂ Σ_A (ã′ − a′)² where a′ is known, row by row."""
    q = numpy_critics(STATE.target_critic, BATCH.next_observation, next_action).min(axis=0)
    for b in range(len(q)):
        if BATCH.next_action_valid[b]:
            q[b] -= 0.3 * sum((next_action[b] - np.asarray(BATCH.next_action[b])) ** 2)
    return q


def test_the_next_value_is_penalised_where_the_datas_next_action_is_known():
    assert (BATCH.next_action_valid == 0).sum() == 2
    next_action = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    value = penalized_next_state_value(CONFIG, STATE, BATCH, jnp.asarray(next_action, jnp.float32))
    np.testing.assert_allclose(value, numpy_next_value(next_action), atol=1e-5)


def test_the_critics_target_carries_the_penalty():
    config = dataclasses.replace(CONFIG, target_noise=0.0, discount=0.9)
    next_value = numpy_next_value(numpy_policy(STATE.target_actor, BATCH.next_observation))
    target = np.asarray(BATCH.reward) + 0.9 * np.where(BATCH.terminal, 0.0, next_value)
    q = numpy_critics(CRITIC, BATCH.observation, BATCH.action)
    expected = sum(np.mean((q[k] - target) ** 2) for k in range(3))
    for step in (critic_step, whole_step):
        _, metrics = step(config, STATE, BATCH, KEY)
        assert float(metrics["critic/loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("normalize_q", [True, False])
def test_actor_loss_equals_a_derivation_in_numpy(normalize_q):
    """mean_b { β₁ Σ_A (π − a)² − λ min_k Q_k },   λ = 1 / mean |min_k Q_k| or 1."""
    config = dataclasses.replace(CONFIG, normalize_q=normalize_q)
    action = numpy_policy(ACTOR, BATCH.observation)
    q = numpy_critics(CRITIC, BATCH.observation, action)
    assert len(set(q.argmin(axis=0))) == 3 and 0 < (q.min(axis=0) > 0).sum() < 30
    q = q.min(axis=0)
    error = np.mean([sum((action[b] - np.asarray(BATCH.action[b])) ** 2) for b in range(30)])
    weight = 1 / np.abs(q).mean() if normalize_q else 1.0
    loss, metrics = actor_loss(config, ACTOR, CRITIC, BATCH)
    assert float(loss) == pytest.approx(0.7 * error - weight * q.mean(), rel=1e-4)
    assert float(metrics["actor/cloning_error"]) == pytest.approx(error, rel=1e-5)


def test_no_gradient_flows_through_the_weight_of_q():
    """Normalised, the part from Q is the plain one divided by mean |min_k Q_k|."""
    unnormalized = dataclasses.replace(CONFIG, normalize_q=False)
    action = numpy_policy(ACTOR, BATCH.observation)
    q = numpy_critics(CRITIC, BATCH.observation, action).min(axis=0)
    cloning = 0.7 * flat(cloning_gradient(ACTOR))
    own, plain = (
        flat(gradient_of(config, ACTOR, CRITIC, BATCH)) - cloning
        for config in (CONFIG, unnormalized)
    )
    assert np.abs(plain).max() > 1e-3
    np.testing.assert_allclose(own, plain / np.abs(q).mean(), rtol=1e-3, atol=1e-5)


def test_only_normalised_is_the_actor_update_free_of_the_scale_of_q():
    members = CRITIC["members"]
    head = jax.tree.map(lambda x: 20.0 * x, members["head"])
    larger = {"members": members | {"head": head}}
    for normalize_q in (True, False):
        config = dataclasses.replace(CONFIG, normalize_q=normalize_q)
        gradients = [flat(gradient_of(config, ACTOR, c, BATCH)) for c in (CRITIC, larger)]
        assert np.allclose(*gradients, rtol=1e-3, atol=1e-5) == normalize_q


def test_a_large_weight_is_cloning():
    config = dataclasses.replace(CONFIG, actor_bc_weight=1e5)
    gradient = gradient_of(config, ACTOR, CRITIC, BATCH)
    np.testing.assert_allclose(
        flat(gradient) / 1e5, flat(cloning_gradient(ACTOR)), rtol=1e-3, atol=1e-4
    )


def test_one_critic_without_layer_norm_and_target_penalty_is_td3_bc_up_to_a_factor():
    """TD3+BC's actor loss is α times ReBRAC's where β₁ = 1 / (α A)."""
    alpha, action_size = 2.5, 3
    shared = {"num_critics": 1, "actor_network": MLP((8,)), "critic_network": MLP((8,))}
    own = ReBRACConfig(actor_bc_weight=1 / (alpha * action_size), critic_bc_weight=0.0, **shared)
    theirs = TD3BCConfig(q_weight=alpha, **shared)
    state = init(REBRAC, own, DATASET.spec, KEY)
    params = state.actor.params, state.critic.params
    gradient = gradient_of(own, *params, BATCH)
    expected, _ = jax.jit(jax.grad(td3_bc_actor_loss, argnums=1, has_aux=True))(
        theirs, *params, BATCH
    )
    assert_close(jax.tree.map(lambda g: alpha * g, gradient), expected)

    after, twin = (
        jax.jit(step)(config, state, BATCH, KEY)[0]
        for step, config in ((critic_update, own), (td3_bc_critic_update, theirs))
    )
    assert_close(after, twin)


def test_the_critics_have_layer_norms_and_the_actor_has_none():
    config = ReBRACConfig()
    state = jax.eval_shape(lambda: REBRAC.init(config, DATASET.spec, KEY))

    def norms(params):
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        return sum("LayerNorm" in path and "scale" in path for path in paths)

    assert norms(state.critic.params) == norms(state.target_critic) == 3  # one a hidden layer
    assert norms(state.actor.params) == norms(state.target_actor) == 0
    assert state.actor.params["network"]["Dense_2"]["kernel"].shape == (256, 256)


def test_the_actor_follows_the_critics_of_the_same_step():
    config = dataclasses.replace(CONFIG, critic_learning_rate=0.1)
    between, _ = critic_step(config, STATE, BATCH, KEY)
    after, _ = whole_step(config, STATE, BATCH, KEY)
    # Adam's first moment is a tenth of the gradient.
    gradient = gradient_of(config, ACTOR, between.critic.params, BATCH)
    assert_close(after.actor.opt_state[0].mu, jax.tree.map(lambda g: 0.1 * g, gradient))
    assert_close(after.critic, between.critic)
