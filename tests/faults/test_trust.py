"""What data may never bring about: code that runs, files that are touched."""

import dataclasses
import os

import gymnasium
import numpy as np
import pytest

from offrl_jax import data, environments
from offrl_jax.types import InputError, Spec
from tests import toy
from tests.files import NAME, env_spec, episode, flat, write_minari, write_npz

MINARI = f"--dataset={NAME}", "--config.batch_size=2"


@pytest.fixture
def made(tmp_path):
    """Metadata whose entry point makes a folder, and that folder."""
    folder = tmp_path / "made"
    kwargs = {"path": str(folder)}
    spec = env_spec(id="Trap-v0", entry_point="os:mkdir", kwargs=kwargs)
    write_minari([episode()], env_spec=spec, eval_env_spec=spec)
    return folder


@pytest.mark.fault(22, "entry_point os:mkdir", "not run; error names --trust_dataset_env")
def test_code_of_the_data_is_not_run(made, refused):
    refused(*MINARI, words=("'Trap-v0'", "--trust_dataset_env"))
    assert not made.exists()


@pytest.mark.fault(22, "... with --trust_dataset_env", "run, as asked")
def test_the_trap_is_live(made, refused):
    refused(*MINARI, "--trust_dataset_env", words=("Trap-v0 cannot be made",))
    assert made.exists()


@pytest.mark.fault(22, "entry_point of a registered id", "the registered one is made, even so")
def test_trust_does_not_replace_what_is_registered(tmp_path, refused):
    folder = tmp_path / "made"
    kwargs = {"path": str(folder)}
    write_minari([episode()], env_spec=env_spec(id="Hopper-v5", entry_point="os:mkdir"))
    refused(*MINARI, "--trust_dataset_env", words=("Hopper-v5 have 11",))
    spec = env_spec(id="Hopper-v5", entry_point="os:mkdir", kwargs=kwargs)
    write_minari([episode()], env_spec=spec)
    refused(*MINARI, "--trust_dataset_env", words=("Hopper-v5 cannot be made",))
    assert not folder.exists()


@pytest.mark.fault(22, "unregistered id, no entry_point", "error without the flag")
def test_an_unregistered_id_alone(refused):
    write_minari([episode()], env_spec=env_spec(id="Hoper-v5", entry_point=None))
    sentence = refused(*MINARI, words=("'Hoper-v5' is not registered", "did you mean Hopper-v"))
    assert "trust" not in sentence


@pytest.mark.fault(22, "wrapper of old gym", "refused: it imports what its arguments name")
@pytest.mark.parametrize("env_id", ["GymV21Environment-v0", "GymV26Environment-v0"])
@pytest.mark.parametrize("trust", [[], ["--trust_dataset_env"]], ids=["", "trusted"])
def test_wrappers_of_old_gym(refused, env_id, trust):
    write_minari([episode()], env_spec=env_spec(id=env_id, kwargs={"env_id": "os:mkdir"}))
    refused(*MINARI, *trust, words=(env_id, "arguments name"))


@pytest.mark.fault(22, "module in the id", "not imported")
@pytest.mark.parametrize("env_id", ["antigravity:Hopper-v5", "os:mkdir"])
def test_modules_in_ids_are_not_imported(refused, env_id):
    write_minari([episode()], env_spec=env_spec(id=env_id, entry_point=None))
    refused(*MINARI, words=(f"{env_id!r} is not registered",))


def toy_minari():
    rng = np.random.default_rng(0)
    actions = rng.uniform(toy.LOW, toy.HIGH, (3, 2))
    space = {"type": "Box", "shape": [2], "low": toy.LOW.tolist(), "high": toy.HIGH.tolist()}
    whole = episode(observations=rng.normal(size=(4, 2)), actions=actions)
    spec = env_spec(id="UnregisteredToy-v0", entry_point="tests.toy:Toy")
    write_minari([whole], {"type": "Box", "shape": [2]}, space, env_spec=spec)


def test_trusted_code_makes_the_environment_and_registers_nothing():
    toy_minari()
    spec = data.load_dataset(NAME, trust_dataset_env=True).spec
    assert spec.env_entry_point == "tests.toy:Toy"
    env = environments.make_from_spec(spec)
    assert isinstance(env.unwrapped, toy.Toy) and env.spec.max_episode_steps == 7
    assert "UnregisteredToy-v0" not in gymnasium.registry


@pytest.mark.fault(22, "trust given once", "not kept by the cache nor by files")
def test_trust_is_not_remembered(seen):
    toy_minari()
    for trust, entry_point in ((True, "tests.toy:Toy"), (False, ""), (True, "tests.toy:Toy")):
        spec = data.load_dataset(NAME, trust_dataset_env=trust).spec
        assert spec.env_entry_point == entry_point
    read = Spec.from_json(spec.to_json())
    assert read == dataclasses.replace(spec, env_entry_point="")
    with pytest.raises(InputError, match="trust_dataset_env=True") as caught:
        environments.make_from_spec(read)
    seen(caught.value)


def listing(folder):
    return sorted(
        (str(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if "cache" not in str(p)
    )


@pytest.mark.fault(23, "`../` and absolute id", "error, nothing outside is touched")
@pytest.mark.parametrize(
    "name", ["../x-v0", "a/../../x-v0", "{}/x-v0", "a//x-v0", "a b-v0", "~/x-v0", "a\\..\\x-v0"]
)
def test_ids_never_leave_the_root(tmp_path, refused, monkeypatch, name):
    monkeypatch.setattr("urllib.request.urlopen", None)
    (write_minari([episode()], name="x-v0").parent).rename(tmp_path / "x-v0")  # there, outside
    before = listing(tmp_path)
    refused(f"--dataset={name.format(tmp_path)}", words=("no Minari id", "never leaves"))
    assert listing(tmp_path) == before


@pytest.mark.fault(24, "a pickle in an npz", "error, nothing is run")
@pytest.mark.parametrize("field", ["rewards", "env_id"])
def test_pickles_are_not_opened(tmp_path, refused, field):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = write_npz(tmp_path / "data.npz", flat() | {field: np.array([Trap()], object)})
    refused(f"--dataset={path}", words=(path, field, "pickled", "plain arrays"))
    assert not (tmp_path / "sprung").exists()
