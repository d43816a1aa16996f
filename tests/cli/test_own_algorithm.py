"""`offrl new-algorithm`, and `--algorithm=MODULE:NAME` in the commands that take it."""

import json
import sys

import pytest

from offrl_jax import InputError
from offrl_jax.cli import new_algorithm
from tests.commands import SMALL, run_apart

REFUSED = {  # what is typed: what the sentence says
    "nowhere:mine": "there is no module 'nowhere' in ",
    "mine.py:mine": "there is no module",
    "../mine:mine": "does not name a module; give MODULE:NAME, such as",
    "mine:min": "'min' does not exist; did you mean mine? (mine has mine)",
    "mine:MineConfig": "'MineConfig' is a type, not an Algorithm",
    "broken:mine": "importing broken raises ZeroDivisionError(",
    "lacking:mine": "importing lacking raises ModuleNotFoundError(",
}


NETWORK = """
import flax.linen as nn

class Residual(nn.Module):
    width: int = 16

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        return x + nn.relu(nn.Dense(self.width)(x))
"""
TWIN = "import flax.linen as nn\n\nclass Residual(nn.Module):\n    pass\n"
NETWORKS = {  # the network that is typed: what the sentence says
    "nets:Residua(width=8)": "'Residua' does not exist; did you mean Residual?",
    "nets:Residual(wide=8)": "Residual has no field 'wide'; did you mean width?",
    "Encoded(encoder=nets:Residual(),network=twin:Residual())": "two classes named Residual",
    "nets:nn": "'nn' is a module, not a network class",
    "nowhere:Residual()": "there is no module 'nowhere' in ",
    "Residual(width=8)": "there is no network 'Residual'",
    "256,256": "'256,256' is not a network; give hidden sizes such as 256x256",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With mine.py, as it is written for a user."""
    path = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        new_algorithm.main("mine")
    (path / "nets.py").write_text(NETWORK)
    (path / "twin.py").write_text(TWIN)
    (path / "broken.py").write_text("1 / 0\n")
    (path / "lacking.py").write_text("import not_installed_here\n")
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """What training said by what was typed; the run is in the folder."""
    cases = {text: [f"--algorithm={text}"] for text in REFUSED}
    cases["mine:mine"] = ["--algorithm=mine:mine", *SMALL, f"--run_dir={folder / 'run'}"]
    own = "--config.network=Encoded(encoder=nets:Residual(width=8),network=MLP(hidden_sizes=8x8))"
    cases["own network"] = ["--algorithm=bc", *SMALL, own, f"--run_dir={folder / 'nets'}"]
    cases |= {t: ["--algorithm=bc", f"--config.network={t}"] for t in NETWORKS}
    cases["help"] = ["--algorithm=mine:mine", "--help"]
    return run_apart("train", cases, PYTHONPATH=str(folder))


def test_it_trains(trained, folder):
    assert trained["mine:mine"]["code"] == 0, trained["mine:mine"]
    assert "mine on pointmaze/umaze-600" in trained["mine:mine"]["out"]
    assert (folder / "run/DONE").exists()


def test_its_settings_are_flags(trained):
    assert "--config.learning_rate=X" in trained["help"]["out"]


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_imported_gets_one_sentence(trained, text):
    done = trained[text]
    assert done["code"] == 2 and done["err"].count("\n") == 1
    assert done["err"].startswith(f"error: --algorithm={text}")
    assert REFUSED[text] in done["err"]


def test_its_run_is_evaluated_where_it_is_named(trained, folder):
    words = [str(folder / "run"), "--num_episodes=1"]
    cases = {"bare": words, "named": [*words, "--algorithm=mine:mine"]}
    done = run_apart("evaluate", cases, PYTHONPATH=str(folder))
    assert done["named"]["code"] == 0 and "mean" in done["named"]["out"], done["named"]
    assert done["bare"]["code"] == 2
    assert "is a run of the algorithm 'mine'; give that as --algorithm=…" in done["bare"]["err"]


def test_its_networks_are_typed(trained, folder):
    assert trained["own network"]["code"] == 0, trained["own network"]
    network = json.loads((folder / "nets/config.json").read_text())["config"]["network"]
    assert network["encoder"] == {"module": "Residual", "width": 8}
    assert network["network"]["hidden_sizes"] == [8, 8]
    words = [str(folder / "nets"), "--num_episodes=1"]
    cases = {"bare": words, "named": [*words, "--networks=nets:Residual"]}
    done = run_apart("evaluate", cases, PYTHONPATH=str(folder))
    assert done["named"]["code"] == 0 and "mean" in done["named"]["out"], done["named"]
    assert done["bare"]["code"] == 2
    assert "holds the network Residual, which is not one of this library's" in done["bare"]["err"]
    assert "`--networks=MODULE:Residual` on the command line" in done["bare"]["err"]


@pytest.mark.parametrize("text", NETWORKS)
def test_networks_that_cannot_be_made_get_one_sentence(trained, text):
    done = trained[text]
    assert done["code"] == 2 and done["err"].count("\n") == 1, done["err"]
    assert NETWORKS[text] in done["err"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "0 names are given"),
        (("my-algorithm",), "'my-algorithm' is not a name of a Python module"),
        (("class",), "'class' is not a name"),
        (("cql",), "there is an algorithm named 'cql' already"),
        (("json",), "there is a Python module named 'json' already"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, monkeypatch, names, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
        new_algorithm.main(*names)
    assert not list(tmp_path.iterdir())


def test_files_that_exist_stay(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = (folder / "mine.py").read_text()
    assert "template" not in before.lower() and "NAME:" not in before
    with pytest.raises(InputError, match=r"mine.py exists already"):
        new_algorithm.main("mine")
    assert (folder / "mine.py").read_text() == before and "mine" not in sys.modules
