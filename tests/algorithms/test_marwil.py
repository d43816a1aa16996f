"""MARWIL against NumPy: the running norm, the weights' clip, a whole step, values of returns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.marwil import MARWILConfig, value_loss
from offrl_jax.networks.heads import state_value, tanh_mean_policy
from offrl_jax.networks.modules import MLP
from tests.algorithms.common.test_advantage_weighted import (
    BATCH,
    DATASET,
    S,
    adam,
    assert_close,
    numpy_log_prob,
    started,
)
from tests.arrays import chain
from tests.networks.test_modules import numpy_mlp

MARWIL = ALGORITHMS["marwil"]
KEY = jax.random.key(1)
NETWORK = MLP((8,))
CONFIG = MARWILConfig(
    inverse_temperature=1.3,
    max_weight=2.0,
    norm_start=4.0,
    norm_update_rate=0.3,
    value_weight=0.7,
    learning_rate=0.1,
    actor_network=NETWORK,
    value_network=NETWORK,
)
STATE = started(lambda: MARWIL.init(CONFIG, DATASET.spec, KEY))
STATE = STATE._replace(squared_norm=jnp.float32(4.0))
ADVANTAGE = np.asarray(BATCH.return_to_go, np.float64) - numpy_mlp(STATE.value.params, S)[:, 0]
LOG_PROB = numpy_log_prob("tanh_mean", STATE.actor.params, S, BATCH.action)
NORM = 4.0 + 0.3 * (np.mean(ADVANTAGE**2) - 4.0)
update = jax.jit(MARWIL.update)


def test_value_loss_is_half_the_weighted_mean_square_of_return_less_value():
    loss, (metrics, advantage) = value_loss(CONFIG, STATE.value.params, BATCH)
    assert float(loss) == pytest.approx(0.7 * 0.5 * np.mean(ADVANTAGE**2), rel=1e-5)
    assert metrics == {"value/loss": loss}
    np.testing.assert_allclose(advantage, ADVANTAGE, atol=1e-5)


def test_a_whole_step_equals_one_written_out():
    """The norm moves before it divides the advantage; value and actor from the old parameters."""
    scaled = 1.3 * ADVANTAGE / np.sqrt(NORM)
    assert 0 < (scaled > np.log(2)).sum() < 30  # some weights are clipped
    weight = np.minimum(np.exp(scaled), 2.0)
    before_it_moved = np.minimum(np.exp(1.3 * ADVANTAGE / 2.0), 2.0)
    assert abs(weight.mean() - before_it_moved.mean()) > 0.01

    after, metrics = update(CONFIG, STATE, BATCH, KEY)
    assert float(after.squared_norm) == pytest.approx(NORM, rel=1e-5)
    assert float(metrics["actor/advantage_norm"]) == pytest.approx(np.sqrt(NORM), rel=1e-5)
    assert float(metrics["actor/weight"]) == pytest.approx(weight.mean(), rel=1e-4)
    assert float(metrics["actor/loss"]) == pytest.approx(-np.mean(weight * LOG_PROB), rel=1e-4)

    def value_objective(value):
        error = BATCH.return_to_go - state_value(NETWORK, value, BATCH.observation)
        return 0.35 * jnp.mean(error**2)

    def actor_objective(actor):
        log_prob = tanh_mean_policy(NETWORK, actor, BATCH.observation).log_prob(BATCH.action)
        return -jnp.mean(jnp.asarray(weight, jnp.float32) * log_prob)

    assert_close(
        after,
        type(STATE)(
            step=jnp.int32(1),
            actor=adam(actor_objective, STATE.actor, 0.1),
            value=adam(value_objective, STATE.value, 0.1),
            squared_norm=jnp.float32(NORM),
        ),
    )


def test_without_inverse_temperature_every_action_counts_the_same():
    _, metrics = update(dataclasses.replace(CONFIG, inverse_temperature=0.0), STATE, BATCH, KEY)
    assert metrics["actor/weight"] == 1.0
    assert float(metrics["actor/loss"]) == pytest.approx(-LOG_PROB.mean(), rel=1e-4)


def test_values_of_a_two_state_chain_are_its_returns():
    """R(s₁) = 2 and R(s₀) = 1 + 2γ with the config's γ, whatever the dataset's."""
    config = dataclasses.replace(CONFIG, learning_rate=1e-2, batch_size=32, discount=0.25)
    state = init(MARWIL, config, chain().spec, KEY)
    assert state.squared_norm == 4.0
    state, _ = learn(MARWIL, config, chain(), state, KEY, num_steps=600)
    np.testing.assert_allclose(
        jax.jit(MARWIL.value)(config, state, jnp.eye(2)), [1 + 0.25 * 2, 2.0], atol=0.05
    )
