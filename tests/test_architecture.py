"""Imports follow the layers, algorithms never import one another, and only commands read argv."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {  # a module imports from its own layer and from those above it in this table
    "foundations": {"types", "config", "files", "axes", "devices"},
    "mathematics": {"losses", "networks", "tabular", "environments"},
    "data": {"data"},
    "algorithms": {"algorithms"},
    "learner": {"learner"},
    "evaluation": {"evaluation", "safety"},
    "runs": {"presets", "runs"},
    "reports": {"reports"},
    "interface": {"__init__", "api", "testing"},
    "commands": {"cli"},
}
OPTIONAL = {"gymnasium", "gymnasium_robotics", "minari", "h5py", "mujoco", "tqdm", "matplotlib"}
MODULES = sorted(
    path for package in ("offrl_jax", "experiments") for path in (ROOT / package).rglob("*.py")
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(module: str) -> int:
    entry = module.split(".")[1] if "." in module else "__init__"
    return next(i for i, entries in enumerate(LAYERS.values()) if entry in entries)


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


OURS = {module_name(path): imports(path) for path in MODULES}


@pytest.mark.parametrize("module", [name for name in OURS if name.startswith("offrl_jax")])
def test_imports_follow_the_layers(module):
    assert not {i for i in OURS[module] if i.startswith("experiments")}
    for imported in OURS[module]:
        if imported.startswith("offrl_jax"):
            assert layer(imported) <= layer(module), f"{module} imports {imported}"


def test_imports_have_no_cycles():
    graph = {name: imported & OURS.keys() for name, imported in OURS.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_package_stays_small_enough_to_find_your_way():
    entries = [p for p in (ROOT / "offrl_jax").iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 22
    long = {name for path in MODULES if (name := module_name(path)) and lines(path) > 400}
    assert not long


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "offrl_jax/algorithms").glob("*.py")), ids=module_name
)
def test_algorithms_never_import_one_another(path):
    if path.stem == "__init__":
        return
    allowed = "offrl_jax.algorithms.base", "offrl_jax.algorithms.common"
    siblings = {i for i in imports(path) if i.startswith("offrl_jax.algorithms")}
    assert not {i for i in siblings if not i.startswith(allowed)}


@pytest.mark.parametrize("path", sorted((ROOT / "offrl_jax").rglob("*.py")), ids=module_name)
def test_the_library_sees_no_flags_and_imports_simulators_only_where_used(path):
    if "cli" in path.parts:
        return
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
continuous = data.dataset_from_arrays(rows[0], np.zeros((9, 1)), *rows[1:])
discrete = data.dataset_from_arrays(rows[0], np.zeros(9), *rows[1:], num_actions=2)
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
    # tracing imports what a run imports
    jax.eval_shape(lambda: through_all_phases(algorithm, config, dataset))
awr = offrl_jax.ALGORITHMS["awr"]
state = offrl_jax.init(awr, awr.Config(), continuous.spec, key)
state, _ = offrl_jax.learn(awr, awr.Config(), continuous, state, key, num_steps=1)
assert state.step == 1
"""


def test_training_on_arrays_needs_only_the_core():
    absent = OPTIONAL | {"jaxtyping", "beartype", "platformdirs", "absl", "PIL"}
    # chex imports absl itself; this package must not.
    code = BARE.format(absent=absent - {"absl"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
