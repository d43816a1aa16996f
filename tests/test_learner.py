"""The learner beyond the contract: means of metrics, and agreement with a plain loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import init, learn
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.data import sample
from offrl_jax.types import InputError
from tests.arrays import random_dataset


@config
class CountConfig:
    rate: float = setting(1.0, "added at each step")
    batch_size: int = setting(4, "transitions a step", low=1)


class CountState(NamedTuple):
    step: jax.Array
    total: jax.Array


def update(config, state, batch, key):
    total = state.total + config.rate * batch.reward.sum()
    return CountState(state.step + 1, total), {"count/step": state.step.astype(jnp.float32)}


count = Algorithm("count", CountConfig, None, update, None, None, "none")


@pytest.fixture
def state():
    return CountState(jnp.int32(0), jnp.float32(0))


def test_what_cannot_be_learnt_with_is_said(state):
    with pytest.raises(InputError, match="num_steps=0"):
        learn(count, CountConfig(), random_dataset(), state, jax.random.key(0), num_steps=0)
    with pytest.raises(InputError, match=r"jax.random.key\(seed\)"):
        learn(count, CountConfig(), random_dataset(), state, jax.random.PRNGKey(0), num_steps=1)
    with pytest.raises(InputError, match="rate=nan"):
        init(count, CountConfig(rate=float("nan")), random_dataset().spec, jax.random.key(0))


def test_metrics_are_means_over_the_steps(state):
    _, metrics = learn(
        count, CountConfig(), random_dataset(), state, jax.random.key(0), num_steps=5
    )
    assert metrics["count/step"] == 2.0


def test_equals_a_plain_loop_over_updates(state):
    dataset, key = random_dataset(), jax.random.key(3)
    expected = 0.0
    for step in range(4):
        sample_key, _ = jax.random.split(jax.random.fold_in(key, step))
        expected += float(sample(dataset, sample_key, 4).reward.sum())
    after, _ = learn(count, CountConfig(), dataset, state, key, num_steps=4)
    np.testing.assert_allclose(after.total, expected, rtol=1e-5)
