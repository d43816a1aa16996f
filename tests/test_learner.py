"""The learner beyond the contract: means of metrics, and agreement with a plain loop."""

import dataclasses
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn, stack
from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.axes import over_runs, side_by_side
from offrl_jax.config import config, grid, setting
from offrl_jax.data import sample
from offrl_jax.learner import check_seed_batch
from offrl_jax.networks.heads import state_value
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.types import InputError
from tests.arrays import chain, random_dataset


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


@pytest.mark.parametrize("num_steps", [1, 4, 5])  # in whole trips of the loop and not
def test_equals_a_plain_loop_over_updates(state, num_steps):
    dataset, key = random_dataset(), jax.random.key(3)
    expected = 0.0
    for step in range(num_steps):
        sample_key, _ = jax.random.split(jax.random.fold_in(key, step))
        expected += float(sample(dataset, sample_key, 4).reward.sum())
    after, _ = learn(count, CountConfig(), dataset, state, key, num_steps=num_steps)
    assert after.step == num_steps
    np.testing.assert_allclose(after.total, expected, rtol=1e-5)


def doubling(config, state, batch, key):
    state, _ = update(config, state, batch, key)
    return state._replace(total=2 * state.total), {"double/total": state.total}


def adding(config, state, batch, key):
    total = state.total + 1
    return CountState(state.step + 1, total), {"add/total": total}


def adding_two(config, state, batch, key):
    total = state.total + 2
    return CountState(state.step + 1, total), {"two/total": total}


def phased(*phases):
    return count._replace(update=phases[-1].updates[0], phases=lambda config, update: phases)


def run(algorithm, lengths, key=None):
    state = CountState(jnp.int32(0), jnp.float32(0))
    key = jax.random.key(3) if key is None else key
    if key.ndim:
        state = jax.tree.map(lambda x: jnp.broadcast_to(x, key.shape).copy(), state)
    for length in lengths:
        config, dataset = CountConfig(), random_dataset()
        state, metrics = learn(algorithm, config, dataset, state, key, num_steps=length)
    return state, metrics


THREE = phased(Phase((adding,), 3), Phase((adding, adding, doubling), 5), Phase((adding, update)))


def test_phases_run_in_order_and_updates_take_turns():
    algorithm = phased(Phase((adding,), 2), Phase((doubling, adding)))
    state, key = CountState(jnp.int32(0), jnp.float32(0)), jax.random.key(3)
    dataset = random_dataset()
    for step, taken in enumerate([adding, adding, doubling, adding, doubling]):
        sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
        state, _ = taken(CountConfig(), state, sample(dataset, sample_key, 4), update_key)
    after, _ = run(algorithm, [5])
    np.testing.assert_allclose(after.total, state.total, rtol=1e-6)
    assert after.step == 5


@pytest.mark.parametrize("lengths", [[1] * 12, [2, 3, 7], [5, 7], [4, 8], [11, 1]])
def test_training_in_phases_resumes_at_any_step(lengths):
    whole, _ = run(THREE, [12])
    state, _ = run(THREE, lengths)
    assert state.step == whole.step == 12
    np.testing.assert_array_equal(state.total, whole.total)


def test_phases_serve_seeds_at_once():
    keys = jax.random.split(jax.random.key(0), 2)
    together, metrics = run(THREE, [7], keys)
    assert metrics["add/total"].shape == (2,)
    for i in range(2):
        alone, _ = run(THREE, [7], keys[i])
        np.testing.assert_allclose(together.total[i], alone.total, rtol=1e-6)


def test_an_empty_phase_is_left_out():
    plain, _ = run(phased(Phase((adding,))), [4])
    state, _ = run(phased(Phase((doubling,), 0), Phase((adding,))), [4])
    assert state.total == plain.total == 4


def test_a_metric_is_the_mean_over_the_steps_that_report_it():
    # Totals 1, 2, 3 in the first phase, then (adding, adding, doubling): 4, 5, then a doubling.
    _, metrics = run(THREE, [5])
    assert metrics["add/total"] == 3.0  # over two stretches of three and two steps
    assert "double/total" not in metrics
    algorithm = phased(Phase((adding, adding_two)))
    _, metrics = run(algorithm, [5])  # not a whole number of cycles
    assert metrics["add/total"] == (1 + 4 + 7) / 3
    assert metrics["two/total"] == (3 + 6) / 2


def test_only_the_last_phase_goes_on_for_ever():
    for phases in [(Phase((adding,), 3),), (Phase((adding,)), Phase((adding,)))]:
        with pytest.raises(ValueError, match="every phase but the last needs a length"):
            run(phased(*phases), [1])


def test_phases_cannot_be_traced_and_say_so():
    with pytest.raises(InputError, match=r"outside of jax.jit"):
        jax.jit(lambda: run(THREE, [1])[0])()


def learnt(algorithm, config, shape, seed_batch, num_steps=5):
    dataset, keys = random_dataset(), jax.random.split(jax.random.key(1), shape)
    state = init(algorithm, config, dataset.spec, keys)
    return learn(
        *(algorithm, config, dataset, state, keys), num_steps=num_steps, seed_batch=seed_batch
    )


def started(config, spec, key):
    return CountState(jnp.int32(0), jax.random.normal(key))


COUNT = count._replace(init=started)


@pytest.mark.parametrize(
    ("algorithm", "config", "shape", "seed_batches"),
    [
        (COUNT, CountConfig(), (6,), [1, 2]),
        (
            COUNT,
            stack([CountConfig(rate=1.0), CountConfig(rate=-3.0)]),
            (2, 6),
            [3],
        ),
        (COUNT._replace(update=THREE.update, phases=THREE.phases), CountConfig(), (4,), [2]),
    ],
    ids=["seeds", "settings and seeds", "phases"],
)
def test_seeds_in_batches_equal_all_at_once(algorithm, config, shape, seed_batches):
    whole, metrics = learnt(algorithm, config, shape, None)
    for seed_batch in seed_batches:
        state, batched = learnt(algorithm, config, shape, seed_batch)
        assert set(batched) == set(metrics)
        for a, b in zip(*map(jax.tree.leaves, ((state, batched), (whole, metrics))), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype and a.shape[: len(shape)] == shape
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    last = jax.tree.leaves(whole)[-1].reshape(-1)
    assert len(np.unique(last)) == last.size  # each run has numbers of its own


def test_runs_with_settings_of_their_own_equal_seeds_of_each():
    bc, dataset = ALGORITHMS["bc"], random_dataset()
    configs = grid(bc.Config(network=MLP((8,)), batch_size=8), learning_rate=[1e-2, 1e-3])
    keys = jax.random.split(jax.random.key(1), 3)

    def trained(config, keys, **options):
        state = init(bc, config, dataset.spec, keys)
        return learn(bc, config, dataset, state, keys, num_steps=5, **options)

    together = trained(*side_by_side(configs, keys))
    in_batches = trained(*side_by_side(configs, keys), seed_batch=2)
    for i, one in enumerate(configs):
        alone = trained(one, keys)
        for found in (together, in_batches):
            own = jax.tree.map(lambda x, i=i: x[3 * i : 3 * i + 3], found)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), own, alone)
    stack_of_one = trained(*side_by_side(configs[:1], keys))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8),
        stack_of_one,
        trained(configs[0], keys),
    )


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_a_stack_that_does_not_fit_the_key_is_said(shape):
    config = stack([CountConfig(rate=1.0), CountConfig(rate=-3.0)])
    keys = jax.random.split(jax.random.key(0), shape) if shape else jax.random.key(0)
    with pytest.raises(InputError, match=r"a stack of shape \(2,\) and the key has shape"):
        init(COUNT, config, random_dataset().spec, keys)


def test_a_batch_has_as_many_seeds_as_asked():
    program = jax.make_jaxpr(over_runs(lambda config, x: 2 * x, 1, 2))(None, jnp.ones(6))
    (scan,) = (e for e in program.eqns if e.primitive.name == "scan")
    assert scan.params["length"] == 3


def test_seeds_in_batches_are_one_trace_of_an_update():
    traces = []

    def counted(config, state, batch, key):
        traces.append(1)
        return update(config, state, batch, key)

    learnt(COUNT._replace(update=counted), CountConfig(), (6,), 2)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("seed_batch", "num_seeds", "words"),
    [
        (4, 6, "seed_batch=4 does not divide 6 runs; 1 or 2 or 3 would work"),
        (0, 2, "seed_batch=0 does not divide 2 runs; 1 would work"),
        (12, 6, "seed_batch=12 does not divide 6 runs"),
        (2, 1, "leaving it out would work"),
    ],
)
def test_a_batch_that_does_not_divide_the_seeds_is_said(seed_batch, num_seeds, words):
    with pytest.raises(InputError, match=words):
        learnt(COUNT, CountConfig(), (num_seeds,), seed_batch)


def test_a_divisor_of_the_seeds_is_taken():
    for seed_batch in (None, 1, 2, 3, 6):
        check_seed_batch(seed_batch, 6)


def test_states_are_the_same_inside_of_other_programs():
    """Where the compiler's options for `init` cannot be set."""
    bc = ALGORITHMS["bc"]
    config, spec, key = bc.Config(network=MLP((8,))), random_dataset().spec, jax.random.key(3)
    alone = init(bc, config, spec, key)
    for inside in (
        jax.jit(lambda: init(bc, config, spec, key))(),
        jax.jit(lambda key: init(bc, config, spec, key))(key),
        jax.tree.map(lambda x: x[0], jax.vmap(lambda key: init(bc, config, spec, key))(key[None])),
    ):
        jax.tree.map(np.testing.assert_array_equal, inside, alone)


def test_data_of_the_same_shape_share_a_program():
    traces = []

    def init_counted(config, spec, key):
        traces.append("init")
        return CountState(jnp.int32(0), jax.random.uniform(key))

    def update_counted(config, state, batch, key):
        traces.append("update")
        return update(config, state, batch, key)

    counted = count._replace(init=init_counted, update=update_counted)
    dataset, key = random_dataset(), jax.random.key(0)
    for name in ("first", "second"):
        named = dataclasses.replace(dataset.spec, name=name, fingerprint=name)
        state = init(counted, CountConfig(), named, key)
        data = dataclasses.replace(dataset, spec=named)
        learn(counted, CountConfig(), data, state, key, num_steps=2)
    assert traces == ["init", "update"]


class Torso(nn.Module):
    """A user's network, with another one in it."""

    inner: nn.Module
    size: int = 6

    @nn.compact
    def __call__(self, x, key=None):
        return nn.tanh(nn.Dense(self.size)(self.inner(x, key=key)))


def nested(size=6, hidden=8):
    return Encoded(Torso(MLP((hidden,)), size), MLP((7,), layer_norm=True))


def test_equal_networks_share_a_program_and_others_do_not():
    """Networks are values: those of two configs are built apart, and each holds others."""
    bc, dataset, key, traces = ALGORITHMS["bc"], random_dataset(), jax.random.key(0), []

    def init_counted(config, spec, key):
        traces.append("init")
        return bc.init(config, spec, key)

    def update_counted(config, state, batch, key):
        traces.append("update")
        return bc.update(config, state, batch, key)

    counted = bc._replace(init=init_counted, update=update_counted)

    def traced_by(network, learning_rate=1e-3):
        traces.clear()
        config = bc.Config(network=network, batch_size=8, learning_rate=learning_rate)
        state = init(counted, config, dataset.spec, key)
        learn(counted, config, dataset, state, key, num_steps=2)
        return [*traces]

    for make in (lambda: MLP((9,)), nested):
        assert make() is not make()
        assert traced_by(make()) == ["init", "update"]
        assert traced_by(make(), learning_rate=1e-2) == []
    for other in (MLP((10,)), nested(size=5), nested(hidden=9), MLP((9,), dropout=0.1)):
        assert traced_by(other) == ["init", "update"], other
    assert traced_by(nested()) == []


@pytest.mark.slow
def test_bfloat16_learns_the_values_of_a_chain():
    iql, dataset, key = ALGORITHMS["iql"], chain(), jax.random.key(0)
    config = iql.Config(
        discount=0.5,
        expectile=0.5,
        actor_learning_rate=0.0,
        critic_learning_rate=3e-3,
        target_update_rate=0.1,
        actor_network=MLP((8,)),
        critic_network=MLP((32, 32)),
        value_network=MLP((32, 32)),
        batch_size=64,
    )
    learnt = {}
    for precision in ("float32", "bfloat16"):
        state = init(iql, config, dataset.spec, key)
        learnt[precision], _ = learn(
            *(iql, config, dataset, state, key), num_steps=500, matmul_precision=precision
        )
        value = state_value(config.value_network, learnt[precision].value.params, jnp.eye(2))
        np.testing.assert_allclose(value, [1 + 0.5 * 2, 2], atol=0.05)
    assert {x.dtype.name for x in jax.tree.leaves(learnt["bfloat16"])} == {"float32", "int32"}
    differ = jax.tree.map(lambda x, y: bool((x != y).any()), learnt["float32"], learnt["bfloat16"])
    critics = differ.critic.params["members"]["network"]
    assert critics["Dense_0"]["kernel"] and differ.value.params["head"]["kernel"]


def test_by_default_jax_decides_the_precision():
    seen = []

    def update_seeing(config, state, batch, key):
        seen.append(jax.config.jax_default_matmul_precision)
        return update(config, state, batch, key)

    seeing = COUNT._replace(update=update_seeing)
    for precision in ("default", "float32"):
        state = init(seeing, CountConfig(), random_dataset().spec, jax.random.key(0))
        with jax.default_matmul_precision("bfloat16"):
            learn(
                *(seeing, CountConfig(), random_dataset(), state, jax.random.key(0)),
                num_steps=1,
                matmul_precision=precision,
            )
    assert set(seen) == {"bfloat16", "float32"}


def test_an_unknown_precision_is_said(state):
    with pytest.raises(InputError, match="matmul_precision='float16' is not one of default, fl"):
        learn(
            *(COUNT, CountConfig(), random_dataset(), state, jax.random.key(0)),
            num_steps=1,
            matmul_precision="float16",
        )
