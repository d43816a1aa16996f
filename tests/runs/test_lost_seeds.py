from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax.runs import lost_seeds


class State(NamedTuple):
    step: jax.Array
    actor: dict
    count: jax.Array
    absent: None = None


def state(value=1.0, step=4, seeds=3):
    return State(
        step=jnp.full(seeds, step, jnp.int32),
        actor={"kernel": jnp.full((seeds, 2, 2), value), "bias": jnp.full(seeds, value)},
        count=jnp.full((seeds, 2), int(value), jnp.int32),
    )


def with_kernel(seed, number):
    lost = state()
    lost.actor["kernel"] = lost.actor["kernel"].at[seed, 1, 0].set(number)
    return lost


def test_finite_numbers_tell_nothing():
    metrics = {"loss": np.array([1e18, -1e18, 0.0])}
    assert lost_seeds.find(metrics, state()) == [None] * 3


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_not_finite_is_named_with_its_seed(number):
    metrics = {"q": np.zeros(3), "loss": np.array([0.0, number, 0.0])}
    assert lost_seeds.find(metrics, state()) == [None, f"loss is {number}", None]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_single_number_of_the_state_is_named_with_its_seed(number):
    found = lost_seeds.find({"loss": np.zeros(3)}, with_kernel(2, number))
    assert found == [None, None, "actor/kernel is not finite"]


def test_the_limit_holds_for_both_signs_and_is_itself_allowed():
    metrics = {"loss": np.array([5.0, 5.001, -5.001])}
    assert lost_seeds.find(metrics, state(), 5.0) == [None, "loss is 5", "loss is -5"]


def test_the_default_limit_is_where_float32_squares_overflow():
    with np.errstate(over="ignore"):
        assert np.isfinite(np.float32(lost_seeds.LIMIT * 0.999) ** 2)
        assert np.isinf(np.float32(lost_seeds.LIMIT * 1.001) ** 2)


def test_several_seeds_are_each_named():
    metrics = {"loss": np.array([np.nan, 0.0, 0.0])}
    assert lost_seeds.find(metrics, with_kernel(1, np.nan)) == [
        "loss is nan",
        "actor/kernel is not finite",
        None,
    ]


def test_lost_seeds_keep_the_old_and_the_others_the_very_new():
    rng = np.random.default_rng(0)
    new, old = (
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 9, x.dtype), state())
        for _ in range(2)
    )
    new.actor["kernel"] = new.actor["kernel"].at[1].set(jnp.nan)
    expected = jax.tree.map(np.array, new)  # `new` is donated
    is_lost = jnp.array([False, True, False])
    frozen = lost_seeds.freeze(is_lost, new, old)
    for got, wanted, kept in zip(*map(jax.tree.leaves, (frozen, expected, old)), strict=True):
        assert got.dtype == wanted.dtype
        if got is frozen.step:
            continue
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[2], wanted[2])
        np.testing.assert_array_equal(got[1], kept[1])
    assert frozen.absent is None


def test_the_step_counts_on_for_all():
    frozen = lost_seeds.freeze(jnp.array([True, False, True]), state(step=9), state(step=4))
    assert frozen.step.tolist() == [9, 9, 9]
