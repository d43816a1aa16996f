"""Seeds on several CPU devices: the same results, in processes of their own."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import devices

LEARN = """
import dataclasses, json, sys
import jax, numpy as np
from offrl_jax import ALGORITHMS, axes, devices, learner
from offrl_jax.config import grid, stack
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import is_network
from tests.arrays import random_dataset

asked = json.loads(sys.argv[1])
names, num_cases, num_settings, num_seeds, num_devices, devices.FILLED_UP["cpu"] = asked
jax.config.update("jax_num_cpu_devices", num_devices)
dataset = random_dataset()
found = {}
for name in names:
    algorithm = ALGORITHMS[name]
    keys = jax.random.split(jax.random.key(0), num_seeds)
    fields = dataclasses.fields(algorithm.Config)
    networks = {field.name: MLP((8, 8)) for field in fields if is_network(field)}
    config = algorithm.Config(**networks, batch_size=16)
    settings = grid(config, critic_learning_rate=np.geomspace(1e-3, 1e-4, num_settings).tolist())
    cases = {
        "side by side": axes.side_by_side(settings, keys),
        "settings and seeds": (stack(settings), jax.numpy.stack([keys] * num_settings)),
    }
    for case, (config, keys) in list(cases.items())[:num_cases]:
        state = learner.init(algorithm, config, dataset.spec, keys)
        program = learner.lower(algorithm, config, dataset, state, keys, num_steps=3).compile()
        for _ in range(2):
            state, metrics = learner.learn(algorithm, config, dataset, state, keys, num_steps=3)
        results = state, metrics
        assert all(x.shape[: keys.ndim] == keys.shape for x in jax.tree.leaves(results))
        found[f"{name}, {case}"] = {
            "devices": len({d.id for leaf in jax.tree.leaves(state) for d in leaf.devices()}),
            "numbers": sum((np.ravel(leaf).tolist() for leaf in jax.tree.leaves(results)), []),
            "program": program.as_text(),
        }
print(json.dumps(found))
"""
COLLECTIVES = re.compile(r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)")


def learned(names, num_cases, num_settings, num_seeds, num_devices, fills_up=False):
    arguments = json.dumps([names, num_cases, num_settings, num_seeds, num_devices, fills_up])
    done = subprocess.run([sys.executable, "-c", LEARN, arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_same(spread, alone, num_devices):
    for case in alone:
        assert alone[case]["devices"] == 1 and spread[case]["devices"] == num_devices, case
        assert spread[case]["numbers"] == pytest.approx(
            alone[case]["numbers"], rel=1e-4, abs=1e-5
        ), case


def test_settings_and_seeds_on_several_devices_learn_the_same_and_never_communicate():
    names = ["td3_bc", "awr"]
    spread = learned(names, 1, 4, 4, 4)
    assert_same(spread, learned(names, 1, 4, 4, 1), 4)
    for case, found in spread.items():
        assert "num_partitions=4" in found["program"], case
        assert not COLLECTIVES.findall(found["program"]), case


@pytest.mark.slow
def test_the_last_device_is_filled_up_where_that_is_asked_for():
    spread = learned(["awr"], 2, 1, 3, 2, True)
    assert_same(spread, learned(["awr"], 2, 1, 3, 1), 2)
    for case, found in spread.items():
        assert "num_partitions=2" in found["program"], case
        assert not COLLECTIVES.findall(found["program"]), case


def test_seeds_that_do_not_divide_stay_on_one_cpu_device(monkeypatch):
    monkeypatch.setattr(devices.jax, "local_device_count", lambda: 2)
    assert devices.seed_mesh(3) is None


@pytest.mark.parametrize(
    ("num_seeds", "num_devices"), [(1, 1), (3, 3), (4, 4), (5, 3), (6, 3), (7, 4), (9, 3)]
)
def test_no_device_is_there_for_copies_alone(monkeypatch, num_seeds, num_devices):
    monkeypatch.setattr(devices, "FILLED_UP", {})
    monkeypatch.setattr(devices.jax, "local_device_count", lambda: 4)
    monkeypatch.setattr(devices.jax, "local_devices", lambda: [*range(4)])
    monkeypatch.setattr(devices.jax.sharding, "Mesh", lambda devices, axes: devices.tolist())
    assert devices.seed_mesh(num_seeds) == ([*range(num_devices)] if num_devices > 1 else None)


@pytest.mark.parametrize(
    ("num_seeds", "limit", "expected"), [(1, 8, 1), (4, 2, 2), (6, 4, 3), (5, 4, 1), (3, 64, 3)]
)
def test_as_many_devices_as_divide_the_seeds(num_seeds, limit, expected):
    assert devices._largest_share(num_seeds, limit) == expected


def test_without_further_devices_there_is_no_mesh():
    assert devices.seed_mesh(4) is None


def test_a_started_backend_keeps_its_devices():
    devices.use_cores(4)
    assert devices.seed_mesh(4) is None


@pytest.mark.parametrize(
    ("num_rows", "width", "expected"),
    [(256, 31, 8), (256, 13, 4), (16, 31, 1), (251, 31, 1), (1, 31, 1), (1000, 31, 40)],
)
def test_blocks_of_rows_are_equal_and_not_tiny(num_rows, width, expected, monkeypatch):
    monkeypatch.setattr(devices, "ROWS_AT_ONCE", {"cpu": 1024})
    assert devices._num_blocks(num_rows, width) == expected


ROWS = {
    "x": jax.random.normal(jax.random.key(0), (24, 3)),
    "y": jnp.arange(24.0),
    "scale": jnp.float32(0.7),
    "none": None,
}


@pytest.mark.parametrize("limit", [None, 1024, 24, 6, 4], ids=str)
def test_a_mean_over_blocks_is_that_over_all_rows(limit, monkeypatch):
    """One block where there is no limit or all rows fit; blocks of 12, 3 and 2 rows, twice."""
    monkeypatch.setattr(devices, "ROWS_AT_ONCE", {} if limit is None else {"cpu": limit})
    traced = []

    def means(rows):
        traced.append((len(rows["y"]), rows["scale"].shape))
        loss = jnp.mean(rows["scale"] * rows["y"] * jnp.sum(rows["x"], axis=1))
        return {"loss": loss}, jnp.mean(rows["x"], axis=0)

    found = jax.jit(lambda rows: devices.mean_over_blocks(means, rows, 2))(ROWS)
    size = 24 if limit in (None, 1024) else limit // 2
    assert set(traced) == {(size, ())}
    x, y = np.asarray(ROWS["x"], np.float64), np.arange(24.0)
    np.testing.assert_allclose(found[0]["loss"], np.mean(0.7 * y * x.sum(1)), rtol=1e-5)
    np.testing.assert_allclose(found[1], x.mean(0), rtol=1e-5, atol=1e-7)


def test_blocks_give_the_gradient_of_a_mean_over_all_rows(monkeypatch):
    def gradient(weight, rows):
        return jax.grad(lambda w: jnp.mean(jnp.square(rows["x"] @ w - rows["y"])))(weight)

    weight = jnp.array([0.5, -1.0, 2.0])
    expected = gradient(weight, ROWS)
    monkeypatch.setattr(devices, "ROWS_AT_ONCE", {"cpu": 8})
    found = devices.mean_over_blocks(lambda rows: gradient(weight, rows), ROWS, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
