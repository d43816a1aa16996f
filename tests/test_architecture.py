"""Imports go strictly downward, algorithms never import one another, only experiments see argv."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {  # longest prefix decides
    "offrl_jax.types": 0,
    "offrl_jax.config": 0.5,
    "offrl_jax.devices": 0.5,
    "offrl_jax.files": 0.5,
    "offrl_jax.runs.outcomes": 0.5,
    "experiments.benchmarks.operations": 0.5,
    "offrl_jax.runs.trees": 0.5,
    "offrl_jax.networks.distributions": 1,
    "offrl_jax.networks.modules": 1.5,
    "offrl_jax.losses": 1,
    "offrl_jax.tabular": 1,
    "offrl_jax.environments": 1,
    "offrl_jax.data": 1.5,
    "offrl_jax.networks.optimizers": 1,
    "offrl_jax.algorithms.common.critics": 1.7,
    "offrl_jax.algorithms.common.discrete_q": 1.8,
    "offrl_jax.algorithms.common.relabel": 1.7,
    "offrl_jax.algorithms.common.cross_entropy_method": 1.8,
    "offrl_jax.algorithms.common.distribution_correction": 1.8,
    "offrl_jax.algorithms.common.behavior": 1.8,
    "offrl_jax.algorithms.common.advantage_weighted": 1.8,
    "offrl_jax.algorithms.common.soft_actor_critic": 1.8,
    "offrl_jax.algorithms.common.twin_delayed": 1.8,
    "offrl_jax.algorithms": 2,
    "offrl_jax.algorithms.common.cross_entropy_policy": 2.5,
    "offrl_jax.data.streaming.feed": 2.4,
    "offrl_jax.learner": 2.5,
    "offrl_jax.evaluation": 3,
    "offrl_jax.evaluation.diagnostics": 3,
    "offrl_jax.runs.lost_seeds": 3,
    "offrl_jax.runs.checkpoints": 3,
    "offrl_jax.runs.directory": 3.5,
    "offrl_jax.runs.numpy_policy": 3,
    "offrl_jax.runs.policy": 3.5,
    "offrl_jax.runs.provenance": 1.5,
    "offrl_jax.reports": 3.6,
    "offrl_jax.runs.sweep_directory": 3.6,
    "offrl_jax.runs.load": 3.6,
    "offrl_jax.safety": 2.7,
    "offrl_jax.safety.simulators": 3.5,
    "offrl_jax.runs.loop": 3.8,
    "offrl_jax.runs.split": 3.9,
    "offrl_jax.runs.train": 4,
    "offrl_jax": 4.5,
    "experiments": 5,
    "offrl_jax.runs.messages": 4.8,
    "experiments.benchmarks.speed": 5.5,
    "offrl_jax.cli.collect": 5.5,
    "experiments.benchmarks.compare": 5.5,
    "offrl_jax.cli.compiled_programs": 4.8,
    "offrl_jax.presets": 5.2,
    "experiments.benchmarks.matrix_products": 4.8,
    "experiments.benchmarks.measurements": 4.9,
    "experiments.benchmarks.d3rlpy_speed": 5.5,
    "offrl_jax.cli.datasets": 5.5,
    "offrl_jax.cli.export": 5.5,
    "experiments.notebooks": 5.5,
    "experiments.overestimation": 5.5,
    "offrl_jax.cli.relabel": 5.5,
    "offrl_jax.cli.report": 5.5,
    "experiments.resumable": 5.3,
    "experiments.safety": 5.5,
    "offrl_jax.cli.launchers": 5.3,
    "offrl_jax.cli.run_flags": 5.3,
    "offrl_jax.cli.select": 5.5,
    "offrl_jax.cli.sweep": 5.5,
    "offrl_jax.cli.train": 5.5,
}
OPTIONAL = {"gymnasium", "gymnasium_robotics", "minari", "h5py", "mujoco", "tqdm", "matplotlib"}
MODULES = sorted(
    path for package in ("offrl_jax", "experiments") for path in (ROOT / package).rglob("*.py")
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(module: str) -> float:
    prefix = max((p for p in FLOORS if f"{module}.".startswith(f"{p}.")), key=len)
    return FLOORS[prefix]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {n for n in names if (ROOT / n.replace(".", "/")).with_suffix(".py").exists()}
            packages = {n for n in names if (ROOT / n.replace(".", "/")).is_dir()}
            found |= files | packages | ({node.module} if names - files - packages else set())
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downward(path):
    here = module_name(path)
    for imported in imports(path):
        if not imported.startswith(("offrl_jax", "experiments")):
            continue
        same_room = here.split(".")[:2] == imported.split(".")[:2]
        assert floor(imported) < floor(here) or (same_room and here.count(".")), (
            f"{here} (floor {floor(here)}) imports {imported} (floor {floor(imported)})"
        )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "offrl_jax/algorithms").glob("*.py")), ids=module_name
)
def test_algorithms_never_import_one_another(path):
    if path.stem == "__init__":
        return
    allowed = {"offrl_jax.algorithms.base"}
    siblings = {i for i in imports(path) if i.startswith("offrl_jax.algorithms")} - allowed
    assert not siblings


@pytest.mark.parametrize("path", sorted((ROOT / "offrl_jax").rglob("*.py")), ids=module_name)
def test_the_library_sees_no_flags_and_imports_simulators_only_where_used(path):
    source = path.read_text()
    assert "absl import flags" not in source and "absl import app" not in source
    assert "argv" not in source
    assert not {i.partition(".")[0] for i in imports(path, top_level_only=True)} & OPTIONAL


def test_losses_import_only_types():
    for path in (ROOT / "offrl_jax/losses").glob("*.py"):
        ours = {i for i in imports(path) if i.startswith("offrl_jax")}
        assert ours <= {"offrl_jax.types"}, path


BARE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ImportError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Absent())
import jax, numpy as np, offrl_jax
from offrl_jax import data
from offrl_jax.algorithms.base import phases_of
rows = np.ones((9, 2)), np.ones(9), np.zeros(9)
continuous = data.from_arrays(rows[0], np.zeros((9, 1)), *rows[1:])
discrete = data.from_arrays(rows[0], np.zeros(9), *rows[1:], num_actions=2)
key = jax.random.key(0)

def through_all_phases(algorithm, config, dataset):
    state, rows = algorithm.init(config, dataset.spec, key), dataset
    for phase in phases_of(algorithm, config):
        if phase.relabel is not None:
            state, rows = phase.relabel(config, state, dataset)
        for update in phase.updates:
            state, _ = update(config, state, data.sample(rows, key, config.batch_size), key)
    return state

for algorithm in offrl_jax.ALGORITHMS.values():
    config = algorithm.Config(batch_size=4)
    dataset = discrete if algorithm.discrete(config) else continuous
    # imports as running it does
    jax.eval_shape(lambda: through_all_phases(algorithm, config, dataset))
awr = offrl_jax.ALGORITHMS["awr"]
state = offrl_jax.init(awr, awr.Config(), continuous.spec, key)
state, _ = offrl_jax.learn(awr, awr.Config(), continuous, state, key, num_steps=1)
assert state.step == 1
"""


def test_training_on_arrays_needs_only_the_core():
    absent = OPTIONAL | {"jaxtyping", "beartype", "platformdirs", "absl", "PIL"}
    # chex reads absl itself; what matters is that we do not.
    code = BARE.format(absent=absent - {"absl"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
