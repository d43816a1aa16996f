"""`experiments.datasets`: which data there are and what they hold."""

import json

import numpy as np
import pytest

from experiments import datasets
from offrl_jax import environments
from offrl_jax.types import Spec
from tests import commands, files


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_a_file_is_shown_as_text_page_and_numbers(tmp_path):
    rng = np.random.default_rng(0)
    columns = files.flat(
        observations=rng.normal(size=(20, 11)),
        next_observations=rng.normal(size=(20, 11)),
        actions=rng.uniform(-1, 1, (20, 3)),
    )
    path = files.write_hdf5(tmp_path / "a&b.hdf5", columns, env_id="Hopper-v5")
    page, numbers = tmp_path / "card.html", tmp_path / "card.json"
    done = commands.run(datasets, "show", path, f"--html={page}", f"--json={numbers}")
    assert (done["code"], done["err"]) == (0, ""), done
    found = json.loads(numbers.read_text())
    assert found["transitions"] == 20 and found["episodes"]["terminal"] == 1
    assert found["environment"]["time_limit"] == 1000 and found["episodes"]["cut"] == 1
    assert found["fingerprint"] in done["out"] and found["fingerprint"] in page.read_text()
    assert "a&amp;b.hdf5" in page.read_text() and "a&b.hdf5" not in page.read_text()


def test_what_loading_warns_of_is_on_the_card(tmp_path):
    columns = files.flat(terminals=np.arange(20) % 10 == 9)
    columns["actions"][3] = 1.5
    path = files.write_npz(tmp_path / "data.npz", columns)
    refused = commands.run(datasets, "show", path)
    assert refused["code"] == 2 and "actions" in refused["err"]
    done = commands.run(datasets, "show", path, "--clip_actions")
    assert (done["code"], done["err"]) == (0, ""), done
    warnings = done["out"].partition("warnings\n")[2]
    assert "clipped" in warnings and "both set" in warnings


def test_known_data_are_listed_with_what_is_in_the_cache():
    files.write_minari([files.episode(index=i) for i in range(2)])
    before = commands.run(datasets, "list")["out"]
    assert "pointmaze/umaze  not in the cache" in before
    assert f"{files.NAME}  not in the cache" in before
    assert commands.run(datasets, "show", files.NAME)["code"] == 0
    after = commands.run(datasets, "list")["out"]
    assert f"{files.NAME}  in the cache" in after and "cache: 1 datasets" in after


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing was asked"),
        (("shwo", "pointmaze/umaze"), "'shwo pointmaze/umaze' was asked"),
        (("show",), "give `list`, or `show NAME`"),
        (("show", "pointmaze/umase"), "did you mean pointmaze/umaze?"),
        (("show", "a.hdf5", "--html=no/such/folder.html"), "cannot be written"),
        (("list", "--htlm=x"), "did you mean --html?"),
    ],
)
def test_bad_input_gets_one_sentence(words, sentence):
    done = commands.run(datasets, *words)
    assert done["code"] == 2 and sentence in done["err"], done
    assert len(done["err"].splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"env_id": "Hopper-v5"}, 1000),
        ({"env_id": "Hopper-v5", "max_episode_steps": 7}, 7),
        ({"env_id": "AdroitHandDoor-v1"}, 200),
        ({"env_id": "NoSuch-v0"}, None),
        ({}, None),
    ],
)
def test_time_limits_are_known_without_making_the_environment(fields, limit):
    assert environments.time_limit(Spec(1, 1, (-1.0,), (1.0,), **fields)) == limit
