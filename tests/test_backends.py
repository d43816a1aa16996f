"""Seeds dealt out to CPU devices: the same results, in processes of their own that have several."""

import json
import subprocess
import sys

import pytest

from offrl_jax import backends

LEARN = """
import json, sys
import jax, numpy as np
from offrl_jax import ALGORITHMS, backends, learner
from offrl_jax.config import grid, stack
from tests.arrays import random_dataset

num_seeds, on_all_cores = json.loads(sys.argv[1])
backends.num_cores = lambda: 2
if on_all_cores:
    backends.use_cores(num_seeds)
dataset = random_dataset()
small = {"actor_hidden_sizes": (8, 8), "critic_hidden_sizes": (8, 8), "batch_size": 16}
found = {}
for name in ("td3_bc", "awr", "cql"):
    algorithm = ALGORITHMS[name]
    config = algorithm.Config(**small)
    for num_settings in (1, 2):
        keys = jax.random.split(jax.random.key(0), num_seeds)
        if num_settings == 2:
            config = stack(grid(config, critic_learning_rate=[1e-3, 3e-4]))
            keys = jax.random.split(keys[0], (2, num_seeds))
        state = learner.init(algorithm, config, dataset.spec, keys)
        for _ in range(2):
            state, metrics = learner.learn(algorithm, config, dataset, state, keys, num_steps=3)
        devices = {d.id for leaf in jax.tree.leaves(state) for d in leaf.devices()}
        leaves = [np.asarray(leaf, float).ravel().tolist() for leaf in jax.tree.leaves(state)]
        found[f"{name} {num_settings}"] = [len(devices), sum(leaves, [])]
print(json.dumps(found))
"""


def learned(num_seeds, on_all_cores):
    arguments = [sys.executable, "-c", LEARN, json.dumps([num_seeds, on_all_cores])]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_seeds_dealt_out_to_devices_learn_the_same():
    alone, dealt = learned(4, False), learned(4, True)
    for case in alone:
        assert alone[case][0] == 1 and dealt[case][0] == 2
        assert dealt[case][1] == pytest.approx(alone[case][1], rel=1e-4, abs=1e-5), case


def test_seeds_that_do_not_divide_stay_on_one_device():
    assert {devices for devices, _ in learned(3, True).values()} == {1}


@pytest.mark.parametrize(
    ("num_seeds", "limit", "expected"), [(1, 8, 1), (4, 2, 2), (6, 4, 3), (5, 4, 1), (3, 64, 3)]
)
def test_as_many_devices_as_divide_the_seeds(num_seeds, limit, expected):
    assert backends._largest_share(num_seeds, limit) == expected


def test_without_further_devices_there_is_no_mesh():
    assert backends.seed_mesh(4) is None


def test_a_started_backend_keeps_its_devices():
    backends.use_cores(4)
    assert backends.seed_mesh(4) is None
