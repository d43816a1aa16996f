"""Folders of shards: what is written is what is read, by parts or whole, and what is damaged is
told."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data import host, memory
from offrl_jax.data.summary import summary
from offrl_jax.types import InputError
from tests.arrays import random_dataset

ROWS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards of 70, 70, 70 and 30 rows, whose episodes of 20 steps go on from one to the next."""
    return data.shard(
        random_dataset(), tmp_path_factory.mktemp("data") / "noise.shards", rows_per_shard=70
    )


@pytest.fixture
def tiny_parts(monkeypatch):
    """A few rows are resident at a time."""
    monkeypatch.setattr(host, "PART_BYTES", 300)


def on_disk(folder):
    return data.load(folder, placement="host")


def assert_equal(dataset, expected, **tolerance):
    for a, b in zip(*map(jax.tree.leaves, (dataset, expected)), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("discrete", [False, True])
def test_what_is_written_is_read_on_the_device_and_on_the_disk(tmp_path, discrete):
    dataset = random_dataset(discrete=discrete)
    path = data.shard(dataset, tmp_path / "noise.shards", rows_per_shard=70)
    whole, mapped = data.load(path), on_disk(f"{path}/")
    index = np.random.default_rng(0).integers(0, ROWS, (50,))
    assert_equal(whole, dataset, rtol=0)
    assert_equal(mapped.take(index), dataset.take(index), rtol=0)
    for found in (whole, mapped):
        assert len(found) == ROWS and found.num_episodes == 12
        assert found.discount == dataset.discount
        assert found.spec.to_json() | {"name": "arrays"} == dataset.spec.to_json()
    assert os.listdir(tmp_path) == ["noise.shards"]  # nothing is left beside it


CHANGES = {
    "nothing": lambda x: x,
    "rewards": lambda x: data.transform_rewards(x, scale=2.0, bias=-1.0),
    "twice": lambda x: data.transform_rewards(data.transform_rewards(x, bias=3.0), scale=-0.5),
    "return range": data.scale_rewards_by_return_range,
    "observations": data.normalize_observations,
    "discount": lambda x: data.with_discount(x, 0.5),
    "all": lambda x: data.with_discount(
        data.normalize_observations(data.transform_rewards(x, scale=0.1, bias=1.0)), 0.9
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_transforms_of_rows_on_the_disk_are_those_on_the_device(folder, tiny_parts, change):
    dataset, mapped = change(random_dataset()), change(on_disk(folder))
    every = np.arange(ROWS)
    assert isinstance(mapped, data.HostDataset)
    assert_equal(mapped.take(every), dataset.take(every), rtol=2e-5, atol=1e-4)
    assert_equal(mapped.on_device(), dataset, rtol=2e-5, atol=1e-4)
    found, expected = summary(mapped), summary(dataset)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, rel=1e-5)), name


def test_transformed_data_are_stored_as_they_are_and_transformed_further(tmp_path, tiny_parts):
    prepared = CHANGES["all"](random_dataset())
    path = data.shard(prepared, tmp_path / "prepared.shards", rows_per_shard=100)
    mapped, every = data.load(path, placement="host", discount=0.9), np.arange(ROWS)
    for change in (CHANGES["nothing"], CHANGES["all"], CHANGES["observations"]):
        expected, found = change(prepared).take(every), change(mapped).take(every)
        assert_equal(found, expected, rtol=1e-4, atol=1e-4)


def test_a_stream_of_datasets_is_one_whose_parts_are_short(folder, tmp_path, tiny_parts):
    datasets = [random_dataset(100, seed=i) for i in range(3)]
    path = data.shard((d for d in datasets), tmp_path / "stream.shards", rows_per_shard=70)
    mapped = on_disk(path)
    assert len(mapped) == 300 and mapped.num_episodes == 15
    assert [len(x["reward"]) for x in mapped.files] == [70, 70, 70, 70, 20]
    lengths = [len(rows) for (rows,) in mapped.parts("observation")]
    assert sum(lengths) == 300 and max(lengths) == 300 // (4 * 5)
    index = np.array([[0, 99, 100], [299, 200, 199]])
    expected = [d.transitions.observation for d in datasets]
    found = mapped.gather(index, ["observation"])["observation"]
    np.testing.assert_array_equal(found, np.concatenate(expected)[index])
    assert list(mapped.take(index.ravel()).episode) == [0, 4, 5, 14, 10, 9]
    prints = {mapped.spec.fingerprint, *(d.spec.fingerprint for d in datasets)}
    assert len(prints) == 4


def test_data_that_do_not_belong_together_leave_nothing(tmp_path):
    for others, words in [
        ([random_dataset(action_size=2)], "of another task"),
        ([data.normalize_observations(random_dataset())], "transformed in another way"),
        ([random_dataset(), None], "'NoneType' object"),
    ]:
        stream = (d for d in [random_dataset(), *others])
        with pytest.raises((InputError, AttributeError), match=words):
            data.shard(stream, tmp_path / "a.shards")
        assert not os.listdir(tmp_path)
    with pytest.raises(InputError, match="there are no data"):
        data.shard([], tmp_path / "a.shards")


@pytest.mark.parametrize(
    ("path", "words"),
    [("a.npz", "ending in .shards"), ("no/a.shards", "no new folder"), ("b.shards", "exists")],
)
def test_shards_need_a_new_path(tmp_path, path, words):
    (tmp_path / "b.shards").mkdir()
    with pytest.raises(InputError, match=words):
        data.shard(random_dataset(), tmp_path / path)


def described(**changes):
    def change(folder):
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def saved(field, array):
    return lambda folder: np.save(folder / f"00001/{field}.npy", array)


def cut(folder):
    with (folder / "00001/reward.npy").open("rb+") as file:
        file.truncate(300)


def grown(folder):
    with (folder / "00001/reward.npy").open("ab") as file:
        file.write(b"more")


BAD = {
    "no file": (lambda f: (f / "00002/reward.npy").unlink(), "no 00002/reward.npy of"),
    "no shard": (lambda f: shutil.rmtree(f / "00003"), "no 00003/observation.npy of"),
    "no description": (lambda f: (f / "dataset.json").unlink(), "has no dataset.json"),
    "no JSON": (lambda f: (f / "dataset.json").write_text("{"), "has no dataset.json"),
    "a list": (lambda f: (f / "dataset.json").write_text("[]"), "has no dataset.json"),
    "foreign JSON": (lambda f: (f / "dataset.json").write_text('{"a": 1}'), "'format'"),
    "later format": (described(format="shards of transitions, 2"), "its format is"),
    "other spec": (described(spec={"observation_size": 5}), "TypeError|KeyError"),
    "other preprocessing": (described(preprocessing={"a": [1]}), "has no dataset.json"),
    "no rows": (described(rows=[]), "rows="),
    "other rows": (described(rows=[70, 71, 70, 30]), r"asks for float32 of shape \(71"),
    "short": (saved("reward", np.zeros(69, np.float32)), r"float32 of shape \(69,\) where"),
    "wide": (saved("action", np.zeros((70, 4), np.float32)), r"shape \(70, 4\)"),
    "double": (saved("reward", np.zeros(70)), "holds float64"),
    "pickled": (saved("reward", np.array([None] * 70)), "no whole npy file"),
    "other order": (saved("action", np.zeros((70, 3), np.float32, "F")), "in another order"),
    "other episodes": (saved("episode", np.full(70, 9, np.int32)), "begins with episode 9"),
    "cut": (cut, "no whole npy file"),
    "grown": (grown, "longer than it declares"),
}


@pytest.mark.parametrize(("damage", "words"), BAD.values(), ids=BAD)
def test_a_bad_folder_is_told_in_a_sentence(folder, tmp_path, damage, words):
    copy = tmp_path / "copy.shards"
    shutil.copytree(folder, copy)
    damage(copy)
    for placement in ("host", "device"):
        with pytest.raises(InputError, match=words) as caught:
            data.load(copy, placement=placement)
        assert str(copy) in str(caught.value)


def test_a_missing_folder_names_its_neighbour(folder):
    with pytest.raises(InputError, match=r"no folder .*nose\.shards; did you mean .*noise\.shards"):
        data.load(folder.with_name("nose.shards"))


def test_rows_go_where_they_fit(folder, monkeypatch, columns):
    assert isinstance(data.load(folder, placement="auto"), data.Dataset)
    monkeypatch.setattr(memory, "on_device", lambda: 1000.0)
    assert isinstance(data.load(folder, placement="auto"), data.HostDataset)
    with pytest.raises(InputError, match=r"--data_placement=host"):
        data.load(folder)


def test_what_needs_all_rows_or_other_files_is_refused(folder, tmp_path, columns):
    with pytest.raises(InputError, match="cannot be chosen from in host memory"):
        data.keep_best_episodes(on_disk(folder), 0.5)
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(InputError, match=r"experiments\.datasets shard"):
        data.load(tmp_path / "a.npz", placement="host")
    with pytest.raises(InputError, match="was written for its environment"):
        data.load(folder, env_id="Hopper-v5")
