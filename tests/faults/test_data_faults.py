"""Data that are wrong: what the command says of each, or how little it takes from them."""

import json
import logging
import os
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from offrl_jax import data, init, learn, learner
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.data import cache
from offrl_jax.data.sources import hdf5
from offrl_jax.data.streaming import memory
from offrl_jax.networks.modules import MLP
from offrl_jax.types import InputError
from tests.arrays import random_dataset
from tests.files import NAME, env_spec, episode, flat, write_hdf5, write_minari, write_npz

MINARI = f"--dataset={NAME}"


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.fixture(params=["data.npz", "data.hdf5"])
def write(request, tmp_path):
    """Writes columns as a file of either format."""
    writer = write_npz if request.param.endswith("npz") else write_hdf5
    return lambda columns, **more: writer(tmp_path / request.param, columns, **more)


@pytest.fixture
def warnings(caplog):
    """The sentences warned of so far, our own alone."""

    def warnings():
        records = [r for r in caplog.records if r.name == "root" and r.levelno == logging.WARNING]
        return [record.getMessage() for record in records]

    return warnings


@pytest.mark.fault(1, "NaN reward", "error: field, count, transition, episode")
def test_nan_reward(write, refused):
    path = write(flat(rewards=changed(flat()["rewards"], [9, 15], np.nan)))
    words = f"reward of dataset {path}", "in 2 of 20", "transition 9 (episode 0)"
    refused(f"--dataset={path}", words=words)


@pytest.mark.fault(1, "NaN reward (Minari)", "error: field, count, transition, episode")
def test_nan_reward_of_a_minari_episode(refused):
    write_minari([episode(), episode(), episode(rewards=np.array([0, np.nan, 0]))])
    words = f"reward of dataset {NAME}", "in 1 of 9", "transition 7 (episode 2)"
    refused(MINARI, words=words)


@pytest.mark.fault(2, "inf observation", "error: field, count, transition, episode")
def test_infinite_observation(write, refused):
    path = write(flat(observations=changed(flat()["observations"], (4, 1), -np.inf)))
    words = f"observation of dataset {path}", "in 1 of 20", "transition 4 (episode 0)"
    refused(f"--dataset={path}", words=words)


@pytest.mark.fault(2, "NaN end of an episode", "error: field, count, transition, episode")
@pytest.mark.parametrize(("value", "what"), [(np.nan, "is not finite"), (2, "values other than 0")])
def test_a_flag_that_is_none(write, refused, value, what):
    path = write(flat(terminals=changed(flat()["terminals"].astype(float), 12, value)))
    refused(f"--dataset={path}", words=("terminal", what, "transition 12 (episode 1)"))


OUTSIDE = changed(flat()["actions"], [3, 11, 11], [[1.5, 0], [0, -7], [0, -7]])


@pytest.mark.fault(3, "action outside its bounds", "error names --clip_actions")
def test_action_outside_its_bounds(write, refused):
    path = write(flat(actions=OUTSIDE))
    words = f"action of dataset {path}", "in 2 of 20", "transition 3 (episode 0)", "--clip_actions"
    refused(f"--dataset={path}", words=words)


@pytest.mark.fault(3, "... with --clip_actions", "clipped, and counted in a warning")
def test_actions_are_clipped_on_request(write, refused, seen, warnings):
    path = write(flat(actions=OUTSIDE))
    refused(f"--dataset={path}", "--clip_actions", words=("batch_size",))  # so far it gets
    (sentence,) = warnings()
    seen(sentence.replace(path, "data"))
    assert path in sentence and "clipped to their bounds in 2 of 20" in sentence


@pytest.mark.fault(3, "NaN action with --clip_actions", "still an error")
def test_nan_actions_are_not_clipped(write, refused):
    path = write(flat(actions=changed(OUTSIDE, (12, 0), np.nan)))
    words = "action", "not finite", "(episode 1)"
    refused(f"--dataset={path}", "--clip_actions", words=words)


def test_the_cache_keeps_actions_as_they_were_recorded(write):
    path = write(flat(actions=OUTSIDE))
    first = data.load_dataset(path, clip_actions=True)
    with pytest.raises(InputError, match="leaves its bounds"):
        data.load_dataset(path)
    again = data.load_dataset(path, clip_actions=True)
    np.testing.assert_array_equal(again.transitions.action, first.transitions.action)
    assert again.transitions.action.min() == -1 and again.spec == first.spec


@pytest.mark.fault(6, "actions shorter than rewards", "error: field, both lengths")
def test_too_few_actions(write, refused):
    path = write(flat(actions=flat()["actions"][:19]))
    refused(f"--dataset={path}", words=(path, "19 rows of action", "20 of observation"))


BROKEN = {
    "actions shorter than rewards (Minari)": (
        6,
        {"rewards": np.zeros(4)},
        ("episode_1", "4 rewards but 3 actions"),
    ),
    "T observations, not T+1": (
        7,
        {"observations": np.zeros((3, 3))},
        ("episode_1", "3 observations for 3 actions"),
    ),
    "one episode of another width": (
        8,
        {"observations": np.zeros((4, 5))},
        ("/episode_1/observations", "(4, 5)", "(4, 3)"),
    ),
    "rewards of strings (Minari)": (
        11,
        {"rewards": np.array([b"a", b"b", b"c"])},
        ("/episode_1/rewards", "|S1"),
    ),
    "termination in mid-episode": (
        12,
        {"terminations": np.array([0, 1, 0], bool)},
        ("episode_1", "terminations set at step 1 of 3"),
    ),
    "truncation in mid-episode": (
        12,
        {"truncations": np.array([1, 0, 1], bool)},
        ("episode_1", "truncations set at step 0 of 3"),
    ),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(*rest, marks=pytest.mark.fault(row, what, "error: episode, field"), id=what)
        for what, (row, *rest) in BROKEN.items()
    ],
)
def test_broken_episode(refused, changes, words):
    write_minari([episode(), episode(**changes)])
    refused(MINARI, words=(NAME, *words))


@pytest.mark.fault(9, "no truncations key", "error: episode, field")
def test_missing_truncations(refused):
    broken = episode()
    del broken["truncations"]
    write_minari([episode(), broken])
    refused(MINARI, words=(NAME, "'truncations'", "/episode_1"))


@pytest.mark.fault(9, "no timeouts column", "warned of: ends are terminals only")
def test_missing_timeouts_are_warned_of_at_every_load(write, seen, warnings):
    columns = flat()
    del columns["timeouts"]
    path = write(columns)
    for times in (1, 2):  # from the file, then from the cache
        data.load_dataset(path)
        assert warnings() == [warnings()[0]] * times
    seen(warnings()[0].replace(path, "data"))
    assert path in warnings()[0] and "end at terminals only" in warnings()[0]


@pytest.mark.fault(10, "an episode is missing", "error: which")
def test_missing_episode(refused):
    with h5py.File(write_minari([episode()] * 3) / "main_data.hdf5", "a") as file:
        del file["episode_1"]
    refused(MINARI, words=(NAME, "no episode_1"))


@pytest.mark.fault(11, "rewards of strings", "error: field, type")
def test_rewards_of_strings(write, refused):
    path = write(flat(rewards=np.array([b"1.0"] * 20)))
    refused(f"--dataset={path}", words=(f"reward of dataset {path}", "|S3"))


@pytest.mark.fault(13, "terminal and time-out together", "terminal wins, counted in a warning")
def test_terminal_wins_over_a_time_out(write, seen, warnings):
    path = write(flat(terminals=flat()["terminals"] | flat()["timeouts"]))
    np.testing.assert_array_equal(
        np.flatnonzero(data.load_dataset(path).transitions.terminal), [9, 19]
    )
    (sentence,) = warnings()
    seen(sentence.replace(path, "data"))
    assert path in sentence and "both set in 1 of 20" in sentence


@pytest.mark.fault(14, "time-out taken for a true end", "Q is 1/(1−γ), and 1 at true ends")
@pytest.mark.parametrize(("end", "value"), [("timeout", 2.0), ("terminal", 1.0)])
def test_time_outs_bootstrap_and_true_ends_do_not(seen, end, value):
    """One state that pays 1, cut at every other step: γ = 0.5 makes it worth 2."""
    n = 64
    every = 1 if end == "terminal" else 2
    ends = {"terminal": np.zeros(n), end: np.arange(1, n + 1) % every == 0}
    state = np.ones((n, 1))
    action = np.random.default_rng(0).uniform(-1, 1, (n, 1))
    dataset = data.dataset_from_arrays(
        *(state, action, np.ones(n)),
        **ends,
        next_observation=state,
        fingerprint="one program for both",
    )
    algorithm = ALGORITHMS["iql"]
    config = algorithm.Config(
        discount=0.5,
        batch_size=32,
        actor_network=MLP((8,)),
        critic_network=MLP((8,)),
        critic_learning_rate=1e-2,
        target_update_rate=0.1,
    )
    key = jax.random.key(0)
    learnt = init(algorithm, config, dataset.spec, key)
    learnt, _ = learn(algorithm, config, dataset, learnt, key, num_steps=600)
    found = float(algorithm.value(config, learnt, jnp.ones((1, 1)))[0])
    seen(f"{found:.3f} for {value}")
    assert found == pytest.approx(value, abs=0.1)


@pytest.mark.fault(15, "last episode without an end", "cut there, nothing crosses")
def test_last_episode_without_an_end(write, seen):
    rows = data.load_dataset(write(flat(timeouts=np.zeros(20, bool)))).transitions
    seen(f"terminal {float(rows.terminal[-1]):.0f}, next action {rows.next_action_valid[-1]:.0f}")
    np.testing.assert_array_equal(np.flatnonzero(rows.terminal), [9])
    np.testing.assert_array_equal(np.flatnonzero(rows.next_action_valid == 0), [9, 19])
    np.testing.assert_array_equal(rows.next_observation, flat()["next_observations"])


@pytest.mark.fault(15, "... nor its next observation", "its last transition is left out")
def test_last_episode_without_an_end_or_a_next_observation(write, seen):
    columns = flat(timeouts=np.zeros(20, bool))
    del columns["next_observations"]
    rows = data.load_dataset(write(columns)).transitions
    seen(f"{len(rows.reward)} of 20 transitions")
    np.testing.assert_array_equal(rows.reward, columns["rewards"][:19])


@pytest.mark.fault(16, "wrong totals in the metadata", "error: both numbers")
@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ({"total_steps": 5}, ("says 5 steps", "hold more")),
        ({"total_steps": 9}, ("says 9 steps", "hold 6")),
        ({"total_episodes": 3}, ("says 3 episodes", "there are 2")),
        ({"total_episodes": 1}, ("says 1 episodes", "there are 2")),
        ({"total_steps": -1}, ("-1 steps",)),
    ],
    ids=str,
)
def test_wrong_totals(refused, totals, words):
    write_minari([episode()] * 2, **totals)
    refused(MINARI, words=(f"metadata.json of {NAME}", *words))


FOREIGN = {"empty": b"", "foreign": b"hello", "magic alone": b"PK\x03\x04\x89HDF\r\n\x1a\n"}


@pytest.mark.fault(17, "truncated, empty or foreign file", "error: file")
@pytest.mark.parametrize("content", [*FOREIGN, "truncated"])
@pytest.mark.parametrize("name", ["data.npz", "data.hdf5", "main_data.hdf5", "metadata.json"])
def test_no_such_format(tmp_path, refused, name, content):
    folder = write_minari([episode(200)]) if name.startswith("m") else tmp_path
    path = folder / name
    if not path.exists():
        writer = write_npz if name.endswith("npz") else write_hdf5
        writer(path, flat())
    content = path.read_bytes()[:200] if content == "truncated" else FOREIGN[content]
    path.write_bytes(content)
    refused(MINARI if folder != tmp_path else f"--dataset={path}", words=(name,))


def flip(path, array):
    """Flips a bit of the file in the middle of the given array's bytes."""
    content, wanted = bytearray(path.read_bytes()), array.tobytes()
    position = content.index(wanted) + len(wanted) // 2
    content[position] ^= 4
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.fault(18, "bit flip in an npz", "error: checksum, field")
def test_flipped_bit_of_an_npz(tmp_path, refused):
    path = write_npz(tmp_path / "data.npz", flat())
    flip(tmp_path / "data.npz", flat()["rewards"])
    refused(f"--dataset={path}", words=(path, "CRC", "rewards"))


@pytest.mark.fault(18, "bit flip in HDF5 with fletcher32", "error: checksum, field")
def test_flipped_bit_of_hdf5(tmp_path, refused):
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in flat().items():
            file.create_dataset(key, data=values, fletcher32=True)
    assert len(data.load_dataset(path)) == 20
    flip(path, flat()["rewards"])
    os.utime(path, ns=(1, 1))
    refused(f"--dataset={path}", words=(f"rewards of {path}", "damaged"))


@pytest.mark.fault(18, "damaged size of a checked chunk", "error, where libhdf5 would crash")
def test_a_chunk_shorter_than_its_checksum(tmp_path, refused):
    columns = flat()
    del columns["rewards"]
    path = write_hdf5(tmp_path / "data.hdf5", columns)
    with h5py.File(path, "a") as file:
        rewards = file.create_dataset("rewards", (20,), "f4", chunks=(20,), fletcher32=True)
        rewards.id.write_direct_chunk((0,), b"abc")
    refused(f"--dataset={path}", words=(f"rewards of {path}", "shorter than its checksum"))


@pytest.mark.fault(18, "bit flip in the cache", "warned of, and read from the source")
@pytest.mark.parametrize("file", ["reward.npy", "timeout.npy", "fields.json"])
def test_flipped_bit_of_the_cache(write, seen, warnings, file):
    path = write(flat())
    first = data.load_dataset(path)
    entry = next(cache.root().iterdir())
    content = bytearray((entry / file).read_bytes())
    content[-10 if file.endswith("npy") else content.index(b"fingerprint") + 20] ^= 1
    (entry / file).write_bytes(content)
    for _ in range(2):  # read anew, then from the mended entry
        again = data.load_dataset(path)
        assert again.spec == first.spec
        jax.tree.map(np.testing.assert_array_equal, again.transitions, first.transitions)
    (sentence,) = warnings()
    seen(sentence.replace(path, "data").replace(str(entry), "the cache"))
    assert path in sentence and "damaged" in sentence


@pytest.mark.fault(19, "bad or future metadata", "error: file, version")
@pytest.mark.parametrize("version", ["2.0", "0.6.1", "garbage", "", 5, ["0.5.3"]])
def test_unknown_format(refused, version):
    write_minari([episode()], minari_version=version)
    refused(MINARI, words=(NAME, "format", str(version)[:20], "0.5"))


@pytest.mark.parametrize("version", ["0.3.1", "0.5.4", None])
def test_known_formats(version):
    write_minari([episode()], minari_version=version)
    assert len(data.load_dataset(NAME)) == 3


@pytest.mark.fault(19, "bad or future metadata", "error: file")
@pytest.mark.parametrize(
    "change",
    [
        {"observation_space": "{"},
        {"observation_space": json.dumps({"type": "Box", "shape": [-3]})},
        {"action_space": json.dumps({"type": "Box"})},
        {"total_steps": True},
        {"total_steps": 10**400},
        {"env_spec": env_spec(id=["Hopper-v5"])},
        {"env_spec": env_spec(id="Hopper-v5", kwargs=[1])},
        {"env_spec": env_spec(id="Hopper-v5", max_episode_steps=True)},
        {"env_spec": env_spec(id="Hopper-v5", max_episode_steps=0)},
        {"observation_space": "[" * 100_000},
    ],
    ids=lambda change: str(change)[:60],
)
def test_bad_metadata(refused, change):
    write_minari([episode()], **change)
    refused(MINARI, words=(f"metadata.json of {NAME}",))


@pytest.mark.fault(20, "HDF5 that declares 64 GiB", "error before anything is allocated")
def test_an_array_larger_than_memory(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * 2**30)
    columns = flat()
    del columns["observations"]
    path = write_hdf5(tmp_path / "data.hdf5", columns)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (2**34,), "f4", chunks=(1024,))
    assert os.path.getsize(path) < 50_000
    refused(f"--dataset={path}", words=(path, "observations", "64.0 GiB", "8.0 GiB of memory"))


@pytest.mark.fault(20, "HDF5 fields that together do not fit", "error before any is allocated")
def test_arrays_that_together_are_larger_than_memory(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: sum(x.nbytes for x in flat().values()) - 1)
    path = write_hdf5(tmp_path / "data.hdf5", flat())
    refused(f"--dataset={path}", words=(path, "of arrays", "of memory"))


@pytest.mark.fault(20, "Minari that declares 1 PiB", "error before anything is allocated")
@pytest.mark.parametrize("where", ["main_data.hdf5", "metadata.json"])
def test_minari_larger_than_memory(refused, where):
    folder = write_minari([episode()], **{"total_steps": 2**50} if "json" in where else {})
    if where == "main_data.hdf5":
        with h5py.File(folder / where, "a") as file:
            del file["episode_0/actions"]
            file.create_dataset("episode_0/actions", (2**48, 2), "f4", chunks=(1024, 2))
    refused(
        MINARI, words=(NAME, "actions" if where == "main_data.hdf5" else "observations", "memory")
    )


def with_header(path, field, header):
    """Rewrites an npz with another header for one field, with right checksums."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old = members[f"{field}.npy"]
    members[f"{field}.npy"] = old[:10] + header.ljust(117).encode() + b"\n" + old[128:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.fault(20, "npz whose header declares 1 PiB", "error before anything is allocated")
def test_npz_header_and_member_must_agree(tmp_path, refused):
    path = write_npz(tmp_path / "data.npz", flat())
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710656,), }"
    with_header(path, "rewards", header)
    refused(f"--dataset={path}", words=(path, "rewards declares 1125899906842624 bytes"))


@pytest.mark.fault(20, "npz larger than memory", "error before anything is allocated")
def test_npz_larger_than_memory(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 700)
    path = write_npz(tmp_path / "data.npz", flat())
    refused(f"--dataset={path}", words=(path, "observations", "memory"))


def test_memory_is_the_machines_or_the_control_groups(tmp_path, monkeypatch):
    available = memory.available.__wrapped__
    machine = available()
    assert 2**20 < machine < 2**60
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "absent", limit))
    for text, expected in (("1234567\n", 1234567), ("max\n", machine), (str(2**62), machine)):
        limit.write_text(text)
        assert available() == expected


ELSEWHERE = {
    "external link": lambda file: file.__setitem__(
        "rewards", h5py.ExternalLink("secret.hdf5", "/rewards")
    ),
    "soft link": lambda file: file.__setitem__("rewards", h5py.SoftLink("/actions")),
    "external storage": lambda file: file.create_dataset(
        "rewards", (20,), "f4", external=[("secret.hdf5", 0, 80)]
    ),
    "virtual dataset": lambda file: file.create_virtual_dataset("rewards", virtual_layout()),
}


def virtual_layout():
    layout = h5py.VirtualLayout((20,), "f4")
    layout[:] = h5py.VirtualSource("secret.hdf5", "rewards", (20,))
    return layout


@pytest.mark.fault(21, "HDF5 that links elsewhere", "error: field")
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_links_are_not_followed(tmp_path, refused, kind):
    write_hdf5(tmp_path / "secret.hdf5", flat())
    columns = flat()
    del columns["rewards"]
    path = write_hdf5(tmp_path / "data.hdf5", columns)
    with h5py.File(path, "a") as file:
        ELSEWHERE[kind](file)
    refused(f"--dataset={path}", words=(path, "'rewards'", "link to data elsewhere"))


@pytest.mark.fault(21, "Minari episode elsewhere", "error: episode")
def test_links_of_minari_are_not_followed(refused):
    folder = write_minari([episode()] * 2)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_1"]
        file["episode_1"] = h5py.ExternalLink("secret.hdf5", "/episode_1")
    refused(MINARI, words=(NAME, "'episode_1'", "link to data elsewhere"))


@pytest.mark.fault(21, "a key with a link on its way", "error: field")
@pytest.mark.parametrize("key", ["far/rewards", "near/rewards", "/actions", "", "a\0b"])
def test_links_on_the_way_to_a_key_are_not_followed(tmp_path, seen, key):
    write_hdf5(tmp_path / "secret.hdf5", flat())
    path = write_hdf5(tmp_path / "data.hdf5", flat())
    with h5py.File(path, "a") as file:
        file["far"] = h5py.ExternalLink("secret.hdf5", "/")
        file["near"] = h5py.SoftLink("/")
    with h5py.File(path) as file, pytest.raises(InputError, match="has no") as error:
        hdf5.member(path, file, key)
    seen(str(error.value).replace(f"{tmp_path}/", ""))


@pytest.mark.fault(25, "feature without variance", "floor kept, and a warning")
def test_constant_features(seen, warnings):
    observation = np.random.default_rng(0).normal(size=(20, 8))
    observation[:, [0, 2, 3, 4, 5, 7]] = 0.1
    dataset = data.dataset_from_arrays(observation, np.zeros((20, 1)), np.ones(20), np.ones(20))
    dataset = data.normalize_observations(dataset)
    (sentence,) = warnings()
    seen(sentence)
    assert "6 of 8" in sentence and "columns 0, 2, 3, 4, 5, ...)" in sentence
    std = np.asarray(dataset.preprocessing.observation_std)
    np.testing.assert_allclose(std[[0, 2]], 1e-3, rtol=1e-3)
    np.testing.assert_allclose(dataset.transitions.observation[:, [0, 2]], 0, atol=1e-4)


def test_features_that_vary_are_not_warned_of(warnings):
    data.normalize_observations(random_dataset())
    assert warnings() == []


@pytest.mark.fault(27, "empty data", "error")
def test_empty_data(write, refused):
    path = write({key: values[:0] for key, values in flat().items()})
    refused(f"--dataset={path}", words=(path, "empty"))


@pytest.mark.fault(27, "empty episodes (Minari)", "error")
@pytest.mark.parametrize("episodes", [0, 2])
def test_empty_minari(refused, episodes):
    write_minari([episode(0)] * episodes)
    refused(MINARI, words=(f"metadata.json of {NAME}", "0 steps"))


@pytest.mark.fault(27, "batch larger than the data", "error: both numbers")
def test_batch_larger_than_the_data(write, refused):
    path = write(flat())
    flags = "--config.batch_size=21", "--num_evaluation_episodes=0"
    refused(f"--dataset={path}", *flags, words=(path, "batch_size=21", "20 transitions"))


@pytest.fixture
def nothing_learns(monkeypatch):
    """Stops a test at the first thing that would be compiled."""
    monkeypatch.setattr(learner, "init", None)
    monkeypatch.setattr(learner, "learn", None)


@pytest.mark.fault(28, "discrete environment, continuous data", "error before compiling")
def test_discrete_environment(write, refused, nothing_learns):
    four = {"observations": np.ones((20, 4)), "next_observations": np.ones((20, 4))}
    path = write(flat(actions=flat()["actions"][:, :1], **four))
    refused(f"--dataset={path}", "--env_id=CartPole-v1", words=("not one of the indices 0 to 1",))


@pytest.mark.fault(28, "... (Minari)", "error before compiling")
def test_discrete_environment_of_a_minari_dataset(refused, nothing_learns):
    write_minari([episode()], env_spec=env_spec(id="CartPole-v1"))
    words = NAME, "are continuous but those of CartPole-v1 discrete"
    refused(MINARI, "--config.batch_size=2", words=words)


@pytest.mark.fault(28, "discrete data, an algorithm of continuous actions", "... names both")
def test_discrete_data(refused, nothing_learns):
    action = {"type": "Discrete", "n": 2}
    write_minari([episode(actions=np.array([0, 1, 1]))], action=action)
    flags = "--config.batch_size=2", "--config.policy=gaussian", "--num_evaluation_episodes=0"
    refused(MINARI, *flags, words=(NAME, "2 discrete ones", "as configured learns continuous ones"))


@pytest.mark.fault(29, "spaces of env and data differ", "error: both widths")
def test_spaces_differ(write, refused, nothing_learns):
    path = write(flat())
    words = path, "actions", "2 numbers", "Hopper-v5", "3"
    refused(f"--dataset={path}", "--env_id=Hopper-v5", words=words)


@pytest.mark.fault(29, "spaces of env and data differ (Minari)", "error: both widths")
def test_minari_spaces_differ(refused, nothing_learns):
    write_minari([episode()], env_spec=env_spec(id="Hopper-v5"))
    words = NAME, "observations", "3 numbers", "Hopper-v5 have 11"
    refused(MINARI, "--config.batch_size=2", words=words)


@pytest.mark.fault(30, "index out of bounds under jit", "first and last row reached, no other")
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_samples_never_leave_the_data(seen, rows):
    number = np.arange(rows, dtype=float)
    dataset = data.dataset_from_arrays(number[:, None], np.zeros((rows, 1)), number, np.ones(rows))
    checked = checkify.checkify(data.sample, errors=checkify.index_checks)
    error, batch = jax.jit(checked, static_argnums=2)(dataset, jax.random.key(0), 1000)
    error.throw()
    found = sorted(set(np.asarray(batch.reward).tolist()))
    seen(f"rows {found}")
    assert found == number.tolist()
    np.testing.assert_array_equal(batch.observation[:, 0], batch.reward)
