"""`offrl datasets`: which data there are and what they hold."""

import json
import os

import numpy as np
import pytest

from offrl_jax import environments
from offrl_jax.types import Spec
from tests import commands, files

BAD = {
    "nothing": ([], "datasets alone is not a command"),
    "typo": (["shwo", "pointmaze/umaze"], "datasets shwo pointmaze/umaze is not a command"),
    "no name": (["show"], "give `list`, `show NAME`, `shard NAME`"),
    "unknown": (["show", "pointmaze/umase"], "did you mean pointmaze/umaze?"),
    "no folder": (["show", "a.hdf5", "--html=no/such/folder.html"], "cannot be written"),
    "one file": (["show", "a.hdf5", "--html=a.out", "--json=./a.out"], "are both a.out"),
    "the data": (["show", "a.hdf5", "--json=./a.hdf5"], "would overwrite its data"),
    "list to a file": (["list", "--json=a.json"], "--json belongs to `show`"),
    "list with keys": (["list", "--observation_keys="], "--observation_keys belongs to `show`"),
    "shards nowhere": (["shard", "a.hdf5"], "no --output=… is given"),
    "shards of no user": (["shard", "{data}", "--output=~no-such-user/x.shards"], "home directory"),
    "long name": (["shard", "{data}", f"--output={300 * 'a'}.shards"], "name too long"),
    "page of shards": (["shard", "a.hdf5", "--html=a"], "--html belongs to `show`; `shard` takes"),
    "no flag": (["list", "--htlm=x"], "did you mean --html?"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def done(folder):
    """What the command answers, case by case."""
    rng = np.random.default_rng(0)
    hopper = files.flat(
        observations=rng.normal(size=(20, 11)),
        next_observations=rng.normal(size=(20, 11)),
        actions=rng.uniform(-1, 1, (20, 3)),
    )
    path = files.write_hdf5(folder / "a&b.hdf5", hopper, env_id="Hopper-v5")
    outside = files.flat(terminals=np.arange(20) % 10 == 9)
    outside["actions"][3] = 1.5
    outside = files.write_npz(folder / "outside.npz", outside)
    odd = files.write_npz(folder / os.fsdecode(b"odd-\xff.npz"), files.flat())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        files.write_minari([files.episode(index=i) for i in range(2)])
    cases = {
        "list before": ["list"],
        "minari": ["show", files.NAME],
        "list after": ["list"],
        "outputs": ["show", path, f"--html={folder}/card.html", f"--json={folder}/card.json"],
        "outside": ["show", outside],
        "odd": ["show", odd, f"--html={folder}/odd.html", f"--json={folder}/odd.json"],
        "shard": ["shard", path, f"--output={folder}/new.shards", "--rows_per_shard=8"],
        "shown": ["show", f"{folder}/new.shards", f"--json={folder}/new.json"],
        "clipped": ["show", outside, "--clip_actions"],
    }
    return commands.run_apart(
        "datasets",
        cases | {k: [word.format(data=path) for word in words] for k, (words, _) in BAD.items()},
        OFFRL_JAX_CACHE=str(folder / "cache"),
        MINARI_DATASETS_PATH=str(folder / "minari"),
    )


def test_a_file_is_shown_as_text_page_and_numbers(folder, done):
    printed = done["outputs"]
    assert (printed["code"], printed["err"]) == (0, "")
    found = json.loads((folder / "card.json").read_text())
    assert found["transitions"] == 20 and found["episodes"]["terminal"] == 1
    assert found["environment"]["time_limit"] == 1000 and found["episodes"]["cut"] == 1
    page = (folder / "card.html").read_text()
    assert found["fingerprint"] in printed["out"] and found["fingerprint"] in page
    assert "a&amp;b.hdf5" in page and "a&b.hdf5" not in page


def test_a_dataset_is_written_as_shards_which_are_the_same_dataset(folder, done):
    assert done["shard"]["code"] == done["shown"]["code"] == 0, (done["shard"], done["shown"])
    assert "20 transitions in 3 shards" in done["shard"]["out"]
    assert len([path for path in (folder / "new.shards").iterdir() if path.is_dir()]) == 3
    shown, of_file = (json.loads((folder / f"{x}.json").read_text()) for x in ("new", "card"))
    assert {k for k, v in shown.items() if v != of_file[k]} == {"name"}


def test_where_no_environment_is_named_it_is_said_who_takes_it(done):
    assert "give env_id, of shards where they are written" in done["clipped"]["out"]


def test_a_name_that_is_no_unicode_is_shown_with_a_question_mark(folder, done):
    assert done["odd"]["code"] == 0, done["odd"]
    assert "odd-?.npz</h1>" in (folder / "odd.html").read_text(encoding="utf-8")
    assert os.fsencode(json.loads((folder / "odd.json").read_text())["name"]).endswith(b"\xff.npz")


def test_what_loading_warns_of_is_on_the_card(done):
    assert done["outside"]["code"] == 2 and "actions" in done["outside"]["err"]
    assert (done["clipped"]["code"], done["clipped"]["err"]) == (0, "")
    warnings = done["clipped"]["out"].partition("warnings\n")[2]
    assert "clipped" in warnings and "both set" in warnings


def test_known_data_are_listed_with_what_is_in_the_cache(done):
    before, after = (done[f"list {when}"]["out"] for when in ("before", "after"))
    assert "pointmaze/umaze  not in the cache" in before
    assert f"{files.NAME}  not in the cache" in before
    assert done["minari"]["code"] == 0
    assert f"{files.NAME}  in the cache" in after and "cache: 1 datasets" in after


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence(done, name):
    assert done[name]["code"] == 2 and BAD[name][1] in done[name]["err"], done[name]
    assert len(done[name]["err"].splitlines()) == 1


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
