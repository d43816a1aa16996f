"""Folders of shards: what is written is what is read, by parts or whole, and what is damaged is
told."""

import errno
import json
import os
import shutil

import jax
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data.streaming import host_dataset, memory
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
    monkeypatch.setattr(host_dataset, "PART_BYTES", 300)


def on_disk(folder):
    return data.load_dataset(folder, placement="host")


def assert_equal(dataset, expected, **tolerance):
    for a, b in zip(*map(jax.tree.leaves, (dataset, expected)), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("discrete", [False, True])
def test_what_is_written_is_read_on_the_device_and_on_the_disk(tmp_path, discrete):
    dataset = random_dataset(discrete=discrete)
    path = data.shard(dataset, tmp_path / "noise.shards", rows_per_shard=70)
    whole, mapped = data.load_dataset(path), on_disk(f"{path}/")
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


def test_normalised_rows_of_the_disk_are_those_of_the_device_to_the_bit(folder):
    normalised = (data.normalize_observations(x) for x in (on_disk(folder), random_dataset()))
    found, expected = (x.take(np.arange(ROWS)).transitions.observation for x in normalised)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("index", [[-1], [0, ROWS], [1.0], [True] * 5, [2**31]])
def test_only_rows_that_there_are_can_be_taken(folder, index):
    with pytest.raises(InputError, match=r"noise\.shards .* whole numbers from 0 to 239"):
        on_disk(folder).take(np.array(index))


def test_no_room_for_returns_is_said_before_they_are_written(folder, monkeypatch):
    def full(file, start, size):
        assert (start, size) == (0, 4 * ROWS)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    dataset = data.transform_rewards(on_disk(folder), bias=1.0)
    with pytest.raises(InputError, match=r"No space left .* TMPDIR"):
        dataset.take(np.arange(3))


def test_transformed_data_are_stored_as_they_are_and_transformed_further(tmp_path, tiny_parts):
    prepared = CHANGES["all"](random_dataset())
    path = data.shard(prepared, tmp_path / "prepared.shards", rows_per_shard=100)
    mapped, every = data.load_dataset(path, placement="host", discount=0.9), np.arange(ROWS)
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
        ([None], "NoneType is no dataset"),
    ]:
        stream = (d for d in [random_dataset(), *others])
        with pytest.raises(InputError, match=words):
            data.shard(stream, tmp_path / "a.shards")
        assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [([], "there are no data"), ("c", "str is no"), ([np.zeros(3)], "ndarray is no"), (3, "int")],
)
def test_what_is_no_data_is_not_written(tmp_path, given, words):
    with pytest.raises(InputError, match=words):
        data.shard(given, tmp_path / "a.shards")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("rows", [0, 2.5, None, "7"])
def test_shards_have_a_whole_number_of_rows(tmp_path, rows):
    with pytest.raises(InputError, match="rows_per_shard="):
        data.shard(random_dataset(), tmp_path / "a.shards", rows_per_shard=rows)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{}/a.npz", "ending in .shards"),
        ("{}/no/a.shards", "no new folder"),
        ("{}/b.shards", "exists"),
        ("{}/" + 300 * "a" + ".shards", "too long"),
        ("{}/a\0.shards", "null"),
        ("~no-such-user/a.shards", "home directory"),
    ],
)
def test_shards_need_a_new_path(tmp_path, path, words):
    (tmp_path / "b.shards").mkdir()
    with pytest.raises(InputError, match=words):
        data.shard(random_dataset(), path.format(tmp_path))
    assert os.listdir(tmp_path) == ["b.shards"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".a.shards.123", ".b.shards.123"):
        (tmp_path / name / "00000").mkdir(parents=True)
    data.shard(random_dataset(), tmp_path / "a.shards")
    assert sorted(os.listdir(tmp_path)) == [".b.shards.123", "a.shards"]


def described(**changes):
    def change(folder):
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def inside(part, **changes):
    def change(folder):
        path = folder / "dataset.json"
        whole = json.loads(path.read_text())
        path.write_text(json.dumps(whole | {part: whole[part] | changes}))

    return change


def archived(folder):
    with (folder / "00001/reward.npy").open("wb") as file:
        np.savez(file, reward=np.zeros(70, np.float32))


def with_header(old, new):
    def change(folder):
        path = folder / "00001/reward.npy"
        path.write_bytes(path.read_bytes().replace(old, new, 1))

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
    "no description": (lambda f: (f / "dataset.json").unlink(), "No such file"),
    "no JSON": (lambda f: (f / "dataset.json").write_text("{"), "cannot be used"),
    "a list": (lambda f: (f / "dataset.json").write_text("[]"), "cannot be used"),
    "deep": (lambda f: (f / "dataset.json").write_text("[" * 100_000), "RecursionError"),
    "foreign JSON": (lambda f: (f / "dataset.json").write_text('{"a": 1}'), "'format'"),
    "later format": (described(format="shards of transitions, 2"), "its format is"),
    "other spec": (described(spec={"observation_size": 5}), "TypeError|KeyError"),
    "other preprocessing": (described(preprocessing={"a": [1]}), "cannot be used"),
    "no rows": (described(rows=[]), "rows is"),
    "half a row": (described(rows=[70, 70, 70, 30.0]), "rows is"),
    "a shard left out": (described(rows=[70, 70, 70]), "but there is 00003"),
    "other rows": (described(rows=[70, 71, 70, 30]), r"asks for float32 of shape \(71"),
    "short": (saved("reward", np.zeros(69, np.float32)), r"float32 of shape \(69,\) where"),
    "wide": (saved("action", np.zeros((70, 4), np.float32)), r"shape \(70, 4\)"),
    "double": (saved("reward", np.zeros(70)), "holds float64"),
    "pickled": (saved("reward", np.array([None] * 70)), "no whole npy file"),
    "other order": (saved("action", np.zeros((70, 3), np.float32, "F")), "in another order"),
    "other episodes": (saved("episode", np.full(70, 9, np.int32)), "begins with episode 9"),
    "last episode": (
        saved("episode", np.r_[[3] * 69, 10**9].astype("<i4")),
        "ends with 1000000000",
    ),
    "header cut": (with_header(b"}", b" "), "no whole npy file"),
    "header of no value": (with_header(b"{'descr'", b",'descr' "), "no whole npy file"),
    "archive": (archived, "no whole npy file"),
    "cut": (cut, "no whole npy file"),
    "grown": (grown, "longer than it declares"),
}


BAD_VALUES = {
    "spec": {
        "observation_size": [4.0, 0, "5"],
        "action_size": [True, 0],
        "action_low": [
            None,
            "abc",
            [float("nan")] * 3,
            [-1.0],
            [1.0] * 3,
            [None] * 3,
            [10**400] * 3,
        ],
        "action_high": [3, [float("inf")] * 3],
        "discrete": ["no", None],
        "env_id": [3, ["Hopper-v5"]],
        "env_kwargs": [None, [], "{}"],
        "max_episode_steps": ["x", 0, 1.5],
        "observation_keys": ["ab", [1], [["a"]]],
        "reference_scores": [[1], 3, "ab", [1, 1], [0, float("nan")]],
        "fingerprint": [None, 3],
    },
    "preprocessing": {
        "observation_std": [[0.0] * 5, [-1.0] * 5, [1e-60] * 5],
        "observation_mean": [[0.0], [None] * 5],
        "reward_scale": [0, None, 1e300],
        "reward_bias": [[1.0], float("nan")],
    },
}
CASES = [
    (part, field, value)
    for part, fields in BAD_VALUES.items()
    for field, values in fields.items()
    for value in values
]


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy.shards")


@pytest.mark.parametrize(("part", "field", "value"), CASES)
def test_a_description_that_says_what_cannot_be_is_refused(copy, part, field, value):
    inside(part, **{field: value})(copy)
    named = field if part == "spec" else part
    with pytest.raises(InputError, match=rf"dataset\.json of .* cannot be used .*{named} is"):
        data.load_dataset(copy)


@pytest.mark.parametrize("discount", [float("nan"), 2, -1, float("inf"), None, "1", True])
def test_a_description_has_a_discount(copy, discount):
    described(discount=discount)(copy)
    with pytest.raises(InputError, match="discount is"):
        data.load_dataset(copy)


@pytest.mark.parametrize("episode", [10**9, -1, 2])
def test_episodes_out_of_order_are_told_when_they_are_read(copy, tiny_parts, episode):
    numbers = np.load(copy / "00001/episode.npy")
    numbers[30] = episode
    np.save(copy / "00001/episode.npy", numbers)
    for read in (lambda: data.load_dataset(copy), lambda: data.episode_returns(on_disk(copy))):
        with pytest.raises(InputError, match="not in order in shard 00001"):
            read()


@pytest.mark.parametrize("placement", ["bogus", None])
def test_a_place_that_is_none_is_refused(folder, placement):
    with pytest.raises(InputError, match="placement="):
        data.load_dataset(folder, placement=placement)


@pytest.mark.parametrize(("damage", "words"), BAD.values(), ids=BAD)
def test_a_bad_folder_is_told_in_a_sentence(copy, damage, words):
    damage(copy)
    for placement in ("host", "device"):
        with pytest.raises(InputError, match=words) as caught:
            data.load_dataset(copy, placement=placement)
        assert str(copy) in str(caught.value)


def test_a_missing_folder_names_its_neighbour(folder):
    with pytest.raises(InputError, match=r"no folder .*nose\.shards; did you mean .*noise\.shards"):
        data.load_dataset(folder.with_name("nose.shards"))


def test_rows_go_where_they_fit(folder, monkeypatch, columns):
    assert isinstance(data.load_dataset(folder, placement="auto"), data.Dataset)
    monkeypatch.setattr(memory, "on_device", lambda: 1000.0)
    assert isinstance(data.load_dataset(folder, placement="auto"), data.HostDataset)
    with pytest.raises(InputError, match=r"placement=host"):
        data.load_dataset(folder)


def test_what_needs_all_rows_or_other_files_is_refused(folder, tmp_path, columns):
    with pytest.raises(InputError, match="cannot be chosen in host memory"):
        data.keep_best_episodes(on_disk(folder), 0.5)
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(InputError, match=r"offrl datasets shard"):
        data.load_dataset(tmp_path / "a.npz", placement="host")
    with pytest.raises(InputError, match="was written for its environment"):
        data.load_dataset(folder, env_id="Hopper-v5")
