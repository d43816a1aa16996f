"""Batches gathered ahead: the same rows, the same training, in bounded pieces."""

import contextlib
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, axes, data, devices, init, learn, learner
from offrl_jax.algorithms.base import Phase, pieces
from offrl_jax.config import grid
from offrl_jax.data.streaming import feed
from offrl_jax.evaluation import diagnostics
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.outcomes import Stopped
from offrl_jax.runs.train import train
from offrl_jax.types import InputError, Transition
from tests.arrays import random_dataset
from tests.few import few
from tests.toy import RuleConfig, rule, toy_dataset

SMALL = {"batch_size": 8, "actor_network": MLP((8,)), "critic_network": MLP((8,))}
BC, TD3_BC = ALGORITHMS["bc"], ALGORITHMS["td3_bc"]
BC_CONFIG = BC.Config(batch_size=8, network=MLP((8,)))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "noise.shards"
    return data.load_dataset(
        data.shard(random_dataset(), path, rows_per_shard=70), placement="host"
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.shards"
    return data.load_dataset(data.shard(toy_dataset(), path, rows_per_shard=25), placement="host")


def learn_in_step(config, state, batch, key):
    """Depends on the batch, the key and all that came before."""
    offset = 0.9 * state.offset + 0.02 * batch.reward.mean() + 0.01 * jax.random.normal(key)
    return state._replace(step=state.step + 1, offset=offset), {"rule/loss": offset}


def other(config, state, batch, key):
    state, metrics = learn_in_step(config, state, batch, key)
    return state._replace(offset=state.offset + 0.05), {"other/loss": metrics["rule/loss"]}


PHASES = rule._replace(
    update=learn_in_step,
    phases=lambda config, update: (Phase((other,), 4), Phase((update, other, other))),
)
CASES = {
    "one seed": (BC, BC_CONFIG, ()),
    "delayed updates, three seeds": (TD3_BC, TD3_BC.Config(**SMALL), (3,)),
    "phases": (PHASES, RuleConfig(), ()),
}


@contextlib.contextmanager
def fed(algorithm, config, dataset, keys, most_steps=None, **options):
    made = learner.feed(algorithm, config, dataset, keys, memory_mb=1, **options)
    if most_steps is not None:
        made.most_steps = most_steps
    with contextlib.closing(made):
        yield made


def trained(algorithm, config, rows, keys, lengths=(5, 6), **options):
    spec = rows.spec
    state, metrics = init(algorithm, config, spec, keys), []
    for num_steps in lengths:
        state, found = learn(algorithm, config, rows, state, keys, num_steps=num_steps, **options)
        metrics.append(found)
    return state, metrics


def assert_close(found, expected, **tolerance):
    tolerance = tolerance or {"rtol": 1e-4, "atol": 1e-5}
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("name", few(list(CASES), ["delayed updates, three seeds", "phases"]))
def test_training_is_that_on_the_device(mapped, name):
    algorithm, config, shape = CASES[name]
    keys = jax.random.split(jax.random.key(1), shape) if shape else jax.random.key(1)
    prepared = [
        data.normalize_observations(data.transform_rewards(x, scale=2.0, bias=1.0))
        for x in (random_dataset(), mapped)
    ]
    expected = trained(algorithm, config, prepared[0], keys)
    for most_steps in (None, 1) if algorithm is BC else (3,):
        with fed(algorithm, config, prepared[1], keys, most_steps) as rows:
            assert_close(trained(algorithm, config, rows, keys), expected)
    assert jnp.all(expected[0].step == 11)


def test_settings_and_batches_of_seeds_are_fed_too(mapped):
    configs = grid(BC_CONFIG, learning_rate=[1e-2, 1e-3])
    config, keys = axes.side_by_side(configs, jax.random.split(jax.random.key(1), 2))
    expected = trained(BC, config, random_dataset(), keys, (4,))
    for options in ({}, {"seed_batch": 2}):
        with fed(BC, config, mapped, keys, **options) as rows:
            assert_close(trained(BC, config, rows, keys, (4,), **options), expected)


def test_data_on_the_disk_can_be_learnt_from_as_they_are(mapped):
    expected = trained(BC, BC_CONFIG, random_dataset(), jax.random.key(1), (4,))
    assert_close(trained(BC, BC_CONFIG, mapped, jax.random.key(1), (4,)), expected)
    assert_close(
        diagnostics.states(mapped).transitions, diagnostics.states(random_dataset()).transitions
    )


def test_only_what_updates_read_is_gathered(mapped):
    key = jax.random.key(0)
    with fed(BC, BC_CONFIG, mapped, key) as rows:
        of_bc = rows.take(0, 2).transitions
    with fed(TD3_BC, TD3_BC.Config(**SMALL), mapped, key) as rows:
        of_td3 = rows.take(0, 2).transitions

    def there(batches):
        return {field for field in Transition._fields if getattr(batches, field) is not None}

    assert there(of_bc) == {"observation", "action"}
    assert there(of_td3) == {"observation", "action", "reward", "next_observation", "terminal"}


def test_batches_are_uniform_over_unequal_shards(mapped):
    """χ² of 40,000 draws in 240 rows, four standard deviations from its mean, and not less than a
    draw that is too even would have."""
    rows = np.random.default_rng(0).permutation(240).astype(np.float32)
    marked = mapped.files
    files = [x | {"reward": rows[70 * i : 70 * i + 70]} for i, x in enumerate(marked)]
    dataset = data.HostDataset(
        files, mapped.stored, mapped.stored_discount, mapped.preprocessing, mapped.spec, 0.99
    )
    made = feed.Feed(dataset, jax.random.key(3), 400, ["reward"], lambda x: x, 64, None)
    with contextlib.closing(made):
        reward = made.take(0, 100).transitions.reward
    counts = np.bincount(reward.astype(int).ravel(), minlength=240)
    statistic = ((counts - 40_000 / 240) ** 2 / (40_000 / 240)).sum()
    assert abs(statistic - 239) < 4 * np.sqrt(2 * 239)


def test_pieces_fit_the_memory_and_cycles_of_updates(mapped, monkeypatch):
    keys = jax.random.split(jax.random.key(0), 2)
    config = BC.Config(batch_size=1000, network=MLP((8,)))
    row_bytes = 3 * 4 * (5 + 3) + feed.INDEX_BYTES
    shapes = []
    gather = data.HostDataset.gather

    def counted(self, index, fields, pool=None):
        shapes.append(index.shape)
        return gather(self, index, fields, pool)

    monkeypatch.setattr(data.HostDataset, "gather", counted)
    with fed(BC, config, mapped, keys) as rows:
        assert rows.most_steps == 2**20 // (2 * 1000 * row_bytes) == 4
        trained(BC, config, rows, keys, (10,))
    assert [shape[1] for shape in shapes[:4]] == [4, 4, 2, 4]  # the last one ahead of the next call
    assert {(s[0], s[2]) for s in shapes[:4]} == {(2, 1000)}
    stretches = [(Phase((other, learn_in_step)), 11)]
    assert [n for _, n in pieces(stretches, 5)] == [4, 4, 3]
    turned = pieces(stretches, 1)
    assert len(turned) == 11 and turned[1][0].updates == (learn_in_step, other)


def test_no_more_than_one_piece_is_gathered_ahead(mapped):
    """A piece waits for what was trained before the last one."""
    gate = threading.Event()

    class Slow:
        def block_until_ready(self):
            assert gate.wait(10)

    with fed(BC, BC_CONFIG, mapped, jax.random.key(0)) as rows:
        rows.prepare(0, 2, Slow())
        rows.take(0, 2)
        rows.prepare(2, 2, None)
        time.sleep(0.05)
        assert not rows._next[2].done()
        gate.set()
        assert rows.take(2, 2) is not None


def test_what_cannot_be_fed_is_said(mapped):
    keys = jax.random.key(0)
    with pytest.raises(InputError, match=r"host_memory_mb=1 does not hold .* give at least 4"):
        learner.feed(BC, BC.Config(batch_size=30_000), mapped, keys, memory_mb=1)
    for name, config in [("marwil", {}), ("cql", {"calibrated": True}), ("awr", {})]:
        algorithm = ALGORITHMS[name]
        with pytest.raises(InputError, match=r"relabels all rows .* placement=device"):
            learner.feed(algorithm, algorithm.Config(**config), mapped, keys, memory_mb=1)
    qt_opt = ALGORITHMS["qt_opt"]
    with pytest.raises(InputError, match="targets in \\[0, 1\\]"):
        config = qt_opt.Config(loss="cross_entropy")
        learner.feed(qt_opt, config, mapped, keys, memory_mb=1)


def test_seeds_are_distributed_with_their_batches(mapped):
    """As `learner.feed` places them where there are several devices."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("seed",))
    keys = jax.random.split(jax.random.key(0), 3)
    placed = devices.distribute(mesh, keys, {"a": np.arange(6).reshape(3, 2)})["a"]
    assert placed.sharding.spec == jax.sharding.PartitionSpec("seed")
    np.testing.assert_array_equal(placed, np.arange(6).reshape(3, 2))


def run(run_dir, dataset, **options):
    options = {"num_steps": 8, "num_evaluations": 2, "num_seeds": 2, "checkpoint_seconds": 0} | (
        {"num_evaluation_episodes": 0} | options
    )
    return train(BC, BC_CONFIG, dataset, run_dir=run_dir, **options)


def rows_of(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


def test_a_run_has_the_rows_of_one_on_the_device_and_goes_on_where_it_was(
    tmp_path, toy, monkeypatch
):
    monkeypatch.setattr("offrl_jax.runs.schedule.MAX_CHUNK", 2)
    monkeypatch.setattr(diagnostics, "NUM_BEHAVIOR_STEPS", 20)
    on_device = run(tmp_path / "device", toy_dataset())
    alone = run(tmp_path / "alone", toy)
    for found, expected in zip(
        rows_of(tmp_path / "alone"), rows_of(tmp_path / "device"), strict=True
    ):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    assert_close(alone.state, on_device.state)

    chunks = []
    with pytest.raises(Stopped):
        run(tmp_path / "cut", toy, stop=lambda: len(chunks) >= 2, log=chunks.append)
    assert len(rows_of(tmp_path / "cut")) == 2
    result = run(tmp_path / "cut", toy)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "alone")
    assert_close(result.state, alone.state, rtol=0)


def test_a_feed_of_something_else_is_refused(mapped):
    key = jax.random.key(0)
    with fed(BC, BC_CONFIG, mapped, key) as made:
        for algorithm, config, other_key in (
            (TD3_BC, TD3_BC.Config(**SMALL), key),
            (BC, BC.Config(batch_size=4, network=MLP((8,))), key),
            (BC, BC_CONFIG, jax.random.key(1)),
            (BC, BC_CONFIG, jax.random.split(key, 2)),
        ):
            state = init(algorithm, config, mapped.spec, other_key)
            with pytest.raises(InputError, match="made for another algorithm, config"):
                learn(algorithm, config, made, state, other_key, num_steps=1)
    state = init(BC, BC_CONFIG, mapped.spec, key)
    with pytest.raises(InputError, match="the feed is closed"):
        learn(BC, BC_CONFIG, made, state, key, num_steps=1)


def test_data_in_host_memory_cannot_be_traced_with(mapped):
    key = jax.random.key(0)
    state = init(BC, BC_CONFIG, mapped.spec, key)
    with pytest.raises(InputError, match="cannot be traced"):
        jax.jit(lambda state: learn(BC, BC_CONFIG, mapped, state, key, num_steps=1))(state)
