"""The documentation names every algorithm, says nothing that the code does not know, and builds."""

import dataclasses
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

import offrl_jax as orl
from offrl_jax import ALGORITHMS, algorithms
from offrl_jax.networks.modules import MLP
from tests.few import CORE
from tests.markdown import ROOT, code_blocks, commands, unknown_flags

DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text()
    for path in sorted(DOCS.rglob("*.md"))
    if "_build" not in path.parts and "jupyter_execute" not in path.parts
}
NOTES = "\n".join((ROOT / name).read_text() for name in ("README.md", "BUILD_NOTES.md"))


def section(page, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize("algorithm", [ALGORITHMS[n] for n in CORE], ids=CORE)
def test_every_core_algorithm_has_a_page_with_its_source_and_settings(algorithm):
    assert f"algorithms/{algorithm.name}.md" in PAGES, f"write docs/algorithms/{algorithm.name}.md"
    page = PAGES[f"algorithms/{algorithm.name}.md"]
    toctree = "\n".join(code_blocks(PAGES["algorithms/index.md"], r"\{toctree\}"))
    assert re.search(rf"^{algorithm.name}$", toctree, re.MULTILINE)
    for directive, title in (("sources", "Sources"), ("settings", "Settings")):
        assert f"```{{{directive}}} {algorithm.name}\n" in section(page, title)
    for title in ("Equations", "Measured", "Pitfalls"):
        assert section(page, title).strip()
    assert f"offrl_jax.algorithms.{algorithm.name}\n" in section(page, "Functions")


@pytest.mark.parametrize("algorithm", [ALGORITHMS[n] for n in CORE], ids=CORE)
def test_what_its_page_takes_its_sources_from_names_its_citation(algorithm):
    module = importlib.import_module(f"{algorithms.__name__}.{algorithm.name}")
    papers = re.findall(r"arXiv:[\d.]+\d", algorithm.citation) or [algorithm.citation[:16]]
    assert "Citation: " in module.__doc__
    assert "Checked against: " in module.__doc__
    for paper in papers:
        assert paper in module.__doc__


@pytest.mark.parametrize("name", CORE)
def test_measured_results_are_those_of_the_notes(name):
    """Every cell beyond task and command stands in the notes or the README, digit for digit."""
    rows = re.findall(
        r"^\| (?!task|-)(.+) \|$", section(PAGES[f"algorithms/{name}.md"], "Measured"), re.MULTILINE
    )
    assert len(rows) > 0
    known = NOTES.replace("−", "-")
    for row in rows:
        first, *cells = [cell.strip() for cell in row.replace("−", "-").split("|")]
        if first.startswith(("umaze", "hopper", "antmaze", "cartpole", "lunarlander")):
            for cell in cells:
                if cell and not cell.startswith("`"):
                    assert re.search(rf"(?<![\d.,]){re.escape(cell)}(?![\d]|[.,]\d)", known), row


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_its_settings_exist(name):
    for module, rest in commands(PAGES[name]):
        assert importlib.util.find_spec(module), module
        rest = rest.partition("`")[0]
        assert not unknown_flags(module, rest), rest
        if module == "offrl_jax.cli.train":
            chosen = dict(re.findall(r"--([\w.]+)=(\S+)", rest))
            if ":" in chosen.get("algorithm", ""):
                continue  # a user's own
            algorithm = ALGORITHMS[chosen.get("algorithm", "cql")]
            fields = {f"config.{field.name}" for field in dataclasses.fields(algorithm.Config)}
            assert {flag for flag in chosen if flag.startswith("config.")} <= fields
            presets = importlib.import_module(f"offrl_jax.presets.{algorithm.name}")
            assert set(chosen.get("recipe", "").split(",")) - {""} <= set(presets.RECIPES)


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("algorithms/")])
def test_settings_and_recipes_that_an_algorithms_page_names_exist(name):
    page, stem = PAGES[name], name.removeprefix("algorithms/").removesuffix(".md")
    if stem not in ALGORITHMS:
        return
    fields = {field.name for field in dataclasses.fields(ALGORITHMS[stem].Config)}
    assert set(re.findall(r"--config\.(\w+)", page)) <= fields
    recipes = set(importlib.import_module(f"offrl_jax.presets.{stem}").RECIPES)
    assert set(re.findall(r"`--recipe=(\w+)`", page)) <= recipes


def test_the_concepts_examples_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))
    names = {"MLP": MLP}
    for block in code_blocks(PAGES["concepts.md"], "python"):
        exec(block.replace("expectile=0.8, ", "expectile=0.8, critic_network=MLP((8,)), "), names)
    assert names["state"].step == 10
    assert names["settings"].expectile.shape == (6,)


def test_the_cells_of_your_own_networks_and_algorithms_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "cells"}
    for block in code_blocks(PAGES["extending.md"], "python"):
        exec(block, names)
    assert names["run"].algorithm.name == "cloning" and names["run"].step == 20
    assert orl.load_run("runs/residual", networks={"Residual": names["Residual"]}).step == 20


def test_the_first_run_leaves_the_files_that_its_page_describes(tmp_path, monkeypatch):
    found = commands("".join(code_blocks(PAGES["quickstart.md"], "sh")))
    ((module, flags),) = (each for each in found if "--run_dir=runs/first" in each[1])
    environment = {"OFFRL_JAX_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", module, *flags.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "runs/first"
    described = re.findall(r"^\| `([^`]+)`", PAGES["run_directory.md"], re.MULTILINE)
    for path in [*run_dir.iterdir(), *(run_dir / "policy").iterdir()]:
        name = path.relative_to(run_dir).as_posix()
        assert any(entry.startswith(name) for entry in described), name
    names = {}
    (example,) = code_blocks(PAGES["quickstart.md"], "python")
    exec(example, names)
    assert names["policy"]([0.0] * names["policy"].spec.observation_size).shape == (2,)
    row = json.loads((run_dir / "evaluations.jsonl").read_text())
    facts = json.loads((run_dir / "environment.json").read_text())["dataset"]
    for file, keys in (("evaluations.jsonl", row), ("environment.json", facts)):
        (line,) = re.findall(rf"^\| `{file}`.*", PAGES["run_directory.md"], re.MULTILINE)
        assert not [key for key in keys if f"`{key}`" not in line]


def test_the_quick_start_names_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r'`-e "\.\[(\w+)\]"`', section(PAGES["quickstart.md"], "Install"))
    assert sorted(named) == sorted(extras["optional-dependencies"])


def test_no_page_or_notebook_shows_a_path_of_the_machine_that_wrote_it():
    texts = {"notes": NOTES} | PAGES
    texts |= {str(path): path.read_text() for path in (ROOT / "experiments").rglob("*.ipynb")}
    for name, text in texts.items():
        assert not re.findall(r"(?<![\w.~)}])/(?:root|home|tmp|Users|work)/\S*", text), name


@pytest.mark.slow
def test_the_pages_build_without_warnings(tmp_path):
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-b", "html", str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        env=os.environ | {"OFFRL_JAX_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for path in (tmp_path / "html").rglob("*.html"):
        for place in (str(ROOT), str(tmp_path), "site-packages"):
            assert place not in path.read_text(), path
    page = (tmp_path / "html/algorithms/cql.html").read_text()
    assert "--config.conservative_weight" in page  # from the config
    assert "aviralkumar2907/CQL at d67dbe9" in page  # from the docstring
    assert "_static/mathjax/" in page and (tmp_path / "html/_static/mathjax").is_dir()
