"""Policies without this package: README's reader in NumPy alone, and programs for JAX alone."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from offrl_jax import ALGORITHMS
from offrl_jax.data import dataset_from_arrays, normalize_observations
from offrl_jax.runs.numpy_policy import acts_by
from offrl_jax.runs.policy import load_policy
from offrl_jax.runs.trees import named_leaves
from offrl_jax.types import InputError
from tests import commands
from tests.few import STRUCTURES, few
from tests.policies import is_discrete, saved
from tests.toy import rule, toy_dataset

ROOT = Path(__file__).parents[2]
OBSERVATION = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
VARIANTS = {"categorical": ("policy", "categorical"), "quantiles": ("num_quantiles", 5)}


@pytest.fixture
def dataset():
    return normalize_observations(toy_dataset())


def python_blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def reader():
    """README's `read_policy`."""
    (block,) = (block for block in python_blocks() if "def read_policy" in block)
    assert len(block.strip().splitlines()) <= 30
    names = {}
    exec(block, names)
    return names["read_policy"]


def outside(tmp_path, code, *arguments):
    """What code prints in a process of its own, away from the repository."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_plain(name, config):
    """Whether acting takes one network and nothing else."""
    several = (
        getattr(config, "num_action_samples", 1) > 1 or getattr(config, "num_quantiles", 1) > 1
    )
    return name not in ("bcq", "bear", "qt_opt", "bcq_discrete") and not several


@pytest.fixture(scope="module")
def policy_of(tmp_path_factory):
    """Policies with random weights, as folder and config, by algorithm; made once."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def made(name):
        name, *settings = name.split()
        discrete = is_discrete(name) or "categorical" in settings
        dataset = normalize_observations(toy_dataset(discrete=discrete))
        run_dir = folder / "-".join([name, *settings])
        _, config, _ = saved(run_dir, dataset, name, [VARIANTS[word] for word in settings])
        return run_dir, config

    return made


FORMS = [*ALGORITHMS, "bc categorical", "dqn quantiles"]


@pytest.mark.parametrize("name", few(FORMS, [*STRUCTURES, "bcq", "bc categorical"]))
def test_readmes_reader_acts_as_the_loaded_policy_or_refuses(policy_of, name):
    run_dir, config = policy_of(name)
    if not is_plain(name, config):
        with pytest.raises(ValueError, match="holds no plain network"):
            reader()(run_dir / "policy")
        return
    for seed_index in (0, 2):
        read = reader()(run_dir / "policy", seed_index)
        loaded = load_policy(run_dir, seed_index)
        for observation in (OBSERVATION, OBSERVATION[0], 100 * OBSERVATION):
            np.testing.assert_allclose(read(observation), loaded(observation), atol=1e-4)


def test_the_reader_needs_nothing_but_numpy(tmp_path, dataset):
    saved(tmp_path, dataset, "cql")
    (block,) = (b for b in python_blocks() if "def read_policy" in b)
    absent = "import sys\nfor name in ('jax', 'flax', 'offrl_jax'): sys.modules[name] = None\n"
    rest = f"print(read_policy({str(tmp_path / 'policy')!r}, 1)([[0.5, 2.0]]).tolist())"
    printed = outside(tmp_path, absent + block + rest)
    expected = load_policy(tmp_path, 1)(np.array([[0.5, 2.0]]))
    np.testing.assert_allclose(json.loads(printed), expected, atol=1e-4)


@pytest.mark.parametrize("seed_index", [-1, 3])
def test_the_reader_refuses_seeds_that_there_are_not(policy_of, seed_index):
    run_dir, _ = policy_of("bc")
    with pytest.raises(ValueError, match=f"has seeds 0 to 2, not {seed_index}; take another"):
        reader()(run_dir / "policy", seed_index)


def test_the_reader_refuses_seeds_that_diverged_and_what_it_does_not_know(tmp_path, dataset):
    saved(tmp_path, dataset, "bc", diverged=[None, "critic/loss is nan at step 7", None])
    folder = tmp_path / "policy"
    with pytest.raises(ValueError, match=r"seed 1 of .* diverged"):
        reader()(folder, 1)
    description = json.loads((folder / "policy.json").read_text())
    del description["acts_by"]  # written by an earlier version
    (folder / "policy.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="holds no plain network"):
        reader()(folder)


class NetState(NamedTuple):
    step: jax.Array
    actor: dict


@pytest.mark.parametrize(
    ("activation", "output", "order", "is_plain"),
    [
        (nn.relu, jnp.tanh, 1, True),
        (nn.gelu, jnp.tanh, 1, False),
        (nn.relu, lambda x: jnp.clip(x, -1.0, 1.0), 1, False),
        (nn.relu, lambda x: jnp.tanh(x[:, ::-1]), 1, False),
        (nn.relu, jnp.tanh, -1, False),
    ],
    ids=["plain", "other activation", "other output", "other columns", "layers named backward"],
)
def test_names_that_suggest_a_plain_network_are_not_believed(activation, output, order, is_plain):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for name in ("Dense_0", "Dense_1")[::order]:
                x = activation(nn.Dense(8, name=name)(x))
            return nn.Dense(2, name="head")(x)

    def act(config, state, observation, key):
        flat = {**state.actor["network"], "head": state.actor["head"]}
        return output(Net().apply({"params": flat}, observation))

    flat = Net().init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    state = NetState(jnp.int32(0), {"head": flat.pop("head"), "network": flat})
    weights = {path for path, _ in named_leaves(state)} - {"step"}
    found = acts_by(rule._replace(act=act), None, state, toy_dataset().spec, weights)
    layers = [f"actor/{name}" for name in ("network/Dense_0", "network/Dense_1", "head")]
    plain = {"layers": layers, "activation": "relu", "output": "tanh"}
    assert found == (plain if is_plain else None)


def test_a_policy_without_weights_is_no_network():
    spec = toy_dataset().spec
    state = rule.init(None, spec, None)
    assert acts_by(rule, rule.Config(), state, spec, {"offset"}) is None
    assert acts_by(rule, rule.Config(), state, spec, set()) is None


ACTS = """
import json, pathlib, sys
for name in ("offrl_jax", "flax"):
    sys.modules[name] = None
import jax.export, numpy
jax.config.update("jax_platforms", "cpu")
observation = numpy.asarray(json.loads(sys.argv[1]), numpy.float32)
for path in sys.argv[2:]:
    program = jax.export.deserialize(pathlib.Path(path).read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu"), program.platforms
    print(json.dumps(program.call(observation).tolist()))
print(json.dumps(program.call(observation[:1]).tolist()))  # any number of observations
"""


def test_exported_programs_act_as_the_loaded_policies_without_this_package(tmp_path, policy_of):
    expected, files = [], []
    for name in ALGORITHMS:
        policy = load_policy(policy_of(name)[0], 1)
        policy.export(tmp_path / f"{name}.jaxexport")
        files.append(str(tmp_path / f"{name}.jaxexport"))
        expected.append(policy(OBSERVATION))
    printed = outside(tmp_path, ACTS, json.dumps(OBSERVATION.tolist()), *files).splitlines()
    for name, line, actions in zip(ALGORITHMS, printed, expected, strict=False):
        np.testing.assert_allclose(json.loads(line), actions, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(json.loads(printed[-1]), expected[-1][:1], atol=1e-4)


def test_exported_actions_never_leave_the_bounds(tmp_path):
    random = np.random.default_rng(0)
    low, high = np.sort(random.normal(size=(2, 60)), axis=0).astype(np.float32)
    assert (low + (high - low) > high).any()  # by rounding
    arrays = np.zeros((3, 2)), np.tile(low, (3, 1)), np.zeros(3), np.ones(3)
    dataset = dataset_from_arrays(*arrays, action_low=low, action_high=high)
    saved(tmp_path, dataset, "bc")
    load_policy(tmp_path).export(tmp_path / "policy.jaxexport")
    program = jax.export.deserialize((tmp_path / "policy.jaxexport").read_bytes())
    observation = 1e6 * random.normal(size=(500, 2)).astype(np.float32)
    actions = np.asarray(program.call(observation))
    assert (actions >= low).all() and (actions <= high).all()
    assert (actions == low).any() and (actions == high).any()


def test_without_flatbuffers_the_sentence_names_it(tmp_path, dataset, monkeypatch):
    saved(tmp_path, dataset, "bc")
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(InputError, match=r'needs flatbuffers, .* pip install "flatbuffers"'):
        load_policy(tmp_path).export(tmp_path / "policy.jaxexport")


BAD = {
    "no run": ([], "0 runs are given; give the directory of one"),
    "two runs": (["a", "b"], "2 runs are given; give the directory of one"),
    "no policy": (["nowhere"], "nowhere holds no policy"),
    "no such seed": (["{run}", "--seed_index=3"], "seed_index=3 but the run has seeds 0 to 2"),
    "no such folder": (["{run}", "--output={run}/no/such/folder"], "cannot be written"),
    "a folder": (["{run}", "--output={run}"], "cannot be written"),
}


@pytest.fixture(scope="module")
def exported(policy_of):
    """A run's directory and what the command answers on it."""
    run_dir, _ = policy_of("iql")
    cases = {"good": ["{run}", "--seed_index=2"]} | {
        name: words for name, (words, _) in BAD.items()
    }
    cases = {name: [word.format(run=run_dir) for word in words] for name, words in cases.items()}
    return run_dir, commands.run_apart("export", cases)


def test_the_command_exports_a_seed(exported):
    run_dir, done = exported
    assert done["good"]["code"] == 0 and str(run_dir / "policy.jaxexport") in done["good"]["out"]
    program = jax.export.deserialize((run_dir / "policy.jaxexport").read_bytes())
    expected = load_policy(run_dir, 2)(OBSERVATION)
    np.testing.assert_allclose(program.call(OBSERVATION), expected, atol=1e-5)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_exported_is_said_in_one_sentence(exported, name):
    run_dir, done = exported
    assert done[name]["code"] == 2 and BAD[name][1] in done[name]["err"], done[name]
    assert len(done[name]["err"].splitlines()) == 1
    assert sorted(path.name for path in run_dir.iterdir()) == ["policy", "policy.jaxexport"]
