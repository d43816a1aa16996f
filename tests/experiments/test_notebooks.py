"""Every notebook of the lecture runs, small, and calls nothing but what is public."""

import ast
import re

import pytest

from experiments.notebooks import FOLDER, NAMES, PARAMETERS, execute
from offrl_jax.types import InputError
from tests import commands

SMALL = {
    "q_learning_from_random_data": {
        "sizes": [300, 3000],
        "num_seeds": 1,
        "tolerance": 0.5,
        "regret": 0.3,
    },
    "simple_experiment": {
        "sizes": [40],
        "num_steps": 2,
        "num_seeds": 2,
        "num_episodes": 1,
        "hidden_sizes": (8, 8),
        "num_fits": 8,
        "num_fit_steps": 5,
        "is_full_size": False,
    },
    "support_and_density": {
        "num_samples": 100,
        "grid_size": 20,
        "sample_sizes": [4, 128],
        "num_repeats": 100,
    },
    "policy_constraints": {
        "num_steps": 2,
        "num_seeds": 1,
        "temperatures": [0.1, 1.0],
        "num_actions": 50,
        "methods": ["SAC", "TD3+BC"],
        "is_full_size": False,
    },
    "conservative_lower_bounds": {
        "num_mdps": 2,
        "num_states": 4,
        "weights": [0.01, 0.1],
        "num_improvements": 15,
    },
    "overestimation": {
        "num_transitions": 40,
        "num_steps": 2,
        "num_evaluations": 1,
        "num_seeds": 1,
        "num_episodes": 1,
        "hidden_sizes": (8, 8),
        "methods": ["1 critic"],
        "is_full_size": False,
    },
    "safe_exploration": {},
}
PYTHONS = ("_replace", "__file__")  # named tuples' own, and a package's
PATHS = {name: FOLDER / f"{name}.py" for name in NAMES}


def test_every_notebook_of_the_folder_has_its_place_and_its_figure():
    others = {"__init__", "__main__"}
    assert {path.stem for path in FOLDER.glob("*.py")} - others == set(NAMES) == set(SMALL)
    figures = FOLDER.parent / "results/lecture"
    assert {path.stem for path in figures.glob("*.png")} == set(NAMES)
    assert max(path.stat().st_size for path in figures.glob("*.png")) < 150_000


@pytest.mark.slow  # the command below runs one
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_draws_a_figure_and_concludes(name, capsys):
    matplotlib = pytest.importorskip("matplotlib", reason="figures need matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context():
        names = execute(PATHS[name], **SMALL[name])
    assert pyplot.get_fignums() == [names["figure"].number]
    for axes in names["figure"].axes:
        assert axes.has_data() or axes.images
    names["figure"].canvas.draw()
    pyplot.close("all")
    assert capsys.readouterr().out == f"{names['conclusion']}\n"
    assert re.fullmatch(r"[^\n]+\.", names["conclusion"])


@pytest.mark.parametrize("name", NAMES)
def test_it_calls_only_what_is_public(name):
    tree = ast.parse(PATHS[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr in PYTHONS, node.attr
        if isinstance(node, ast.ImportFrom):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private and not re.search(r"\._|^tests", node.module)


@pytest.mark.parametrize("name", NAMES)
def test_jupytext_opens_it(name):
    jupytext = pytest.importorskip("jupytext", reason="pip install -e '.[notebooks]'")
    notebook = jupytext.read(PATHS[name])
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert tags.count(["parameters"]) == 1
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.cells[0].source.startswith("# ")
    assert {cell.cell_type for cell in notebook.cells} == {"code", "markdown"}


def test_a_parameter_or_a_cell_of_another_name_is_refused(tmp_path):
    path = PATHS["safe_exploration"]
    with pytest.raises(InputError, match="no parameter num_wheels; it has weights, alpha"):
        execute(path, num_wheels=3)
    changed = tmp_path / "changed.py"
    changed.write_text(path.read_text().replace(PARAMETERS, '# %% tags=["sizes"]'))
    with pytest.raises(InputError, match="0 cells that begin with"):
        execute(changed, alpha=0.1)


def test_parameters_replace_those_of_the_cell_and_errors_name_the_line(tmp_path):
    path = tmp_path / "page.py"
    path.write_text(f"# %%\nn = 1\n\n{PARAMETERS}\nsize = 2\n\n# %%\ntwice = 2 * size\n")
    assert execute(path)["twice"] == 4
    assert execute(path, size=5)["twice"] == 10
    with pytest.raises(TypeError) as caught:
        execute(path, size=None)
    assert caught.traceback[-1].lineno == 7  # counted from 0


def test_the_command_writes_figures_and_refuses_other_names(tmp_path):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    (tmp_path / "file").touch()
    cases = {
        "typo": ["safe_explorations"],
        "stranger": ["xyz"],
        "file": [f"--output={tmp_path / 'file' / 'folder'}"],
        "good": ["safe_exploration", f"--output={tmp_path}"],
    }
    found = commands.run_apart("experiments.notebooks.__main__", cases)
    assert found["typo"]["code"] == found["stranger"]["code"] == found["file"]["code"] == 2
    assert "did you mean safe_exploration?" in found["typo"]["err"]
    assert "there are q_learning_from_random_data" in found["stranger"]["err"]
    assert "cannot be made" in found["file"]["err"]
    assert found["good"]["code"] == 0, found["good"]
    assert "accident" in found["good"]["out"]
    assert (tmp_path / "safe_exploration.png").stat().st_size > 10_000
