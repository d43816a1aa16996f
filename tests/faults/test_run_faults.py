"""Faults of runs: seeds that diverge, directories, devices, loggers, environments, clocks."""

import json
import os
import pickle
import random
import shutil
import sys
import time
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import algorithms
from offrl_jax.cli import command_line
from offrl_jax.config import config, setting
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.directory import RunDirectory
from offrl_jax.runs.policy import load_policy
from offrl_jax.runs.train import train
from offrl_jax.types import InputError
from tests.commands import SMALL
from tests.few import few
from tests.toy import RuleConfig, Toy, rule, toy_dataset


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@config
class FragileConfig(RuleConfig):
    poisoned_below: float = setting(0.0, "seeds with a smaller offset turn NaN at step 5")


class FragileState(NamedTuple):
    step: jax.Array
    offset: jax.Array
    unused: jax.Array
    noise: jax.Array


def fragile_init(config, spec, key):
    return FragileState(jnp.int32(0), jax.random.uniform(key), jnp.ones(3), jnp.zeros(4))


def fragile_update(config, state, batch, key):
    is_poisoned = (state.offset < config.poisoned_below) & (state.step == 4)
    noise = state.noise + jax.random.normal(key, (4,)) + jnp.where(is_poisoned, jnp.nan, 0.0)
    return state._replace(step=state.step + 1, noise=noise), {"noise/loss": noise.mean()}


fragile = rule._replace(
    Config=FragileConfig,
    init=fragile_init,
    update=fragile_update,
    act=lambda config, state, observation, key: jnp.tanh(
        jnp.broadcast_to(state.noise[:2], (observation.shape[0], 2))
    ),
)
FRAGILE_RUN = {"num_steps": 12, "num_seeds": 3, "num_evaluations": 4, "num_evaluation_episodes": 2}


def fragile_run(run_dir, poisoned_below, **options):
    return train(
        fragile,
        FragileConfig(poisoned_below=poisoned_below),
        toy_dataset(),
        run_dir=run_dir,
        **FRAGILE_RUN | options,
    )


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return fragile_run(tmp_path_factory.mktemp("runs") / "healthy", 0.0)


def limit_of(healthy, num_lost):
    """Poisons just that many of the seeds."""
    offsets = np.sort(np.asarray(healthy.state.offset))
    return float((offsets[num_lost - 1] + np.append(offsets, 2.0)[num_lost]) / 2)


@pytest.mark.fault(32, "NaN in one seed", "frozen and reported, the others bit-identical")
def test_nan_in_one_seed(healthy, tmp_path, monkeypatch, seen, caplog):
    result = fragile_run(tmp_path / "run", limit_of(healthy, 1))
    lost = int(np.argmin(result.state.offset))
    others = [i for i in range(3) if i != lost]
    # The updates 5 and 6 are of the chunk from step 3 to 6.
    assert [why is not None for why in result.diverged] == [i == lost for i in range(3)]
    assert result.diverged[lost] == "noise/loss is nan at step 6"
    assert result.diverged[lost] in caplog.text
    for ours, reference in zip(result.state, healthy.state, strict=True):
        np.testing.assert_array_equal(ours[np.array(others)], reference[np.array(others)])
    assert np.isfinite(result.state.noise).all() and result.state.step.tolist() == [12] * 3
    at_three = fragile_run(tmp_path / "short", 0.0, num_steps=3, num_evaluations=1)
    np.testing.assert_array_equal(result.state.noise[lost], at_three.state.noise[lost])
    for ours, reference in zip(
        rows(result.run_dir / "evaluations.jsonl"),
        rows(healthy.run_dir / "evaluations.jsonl"),
        strict=True,
    ):
        assert [ours["return"][i] for i in others] == [reference["return"][i] for i in others]
        assert (ours["return"][lost] is None) == (ours["step"] >= 6)
    assert result.failed is None and (result.run_dir / "DONE").exists()
    monkeypatch.setattr(algorithms, "NAMES", (*algorithms.NAMES, "rule"))
    module = SimpleNamespace(rule=fragile)
    monkeypatch.setitem(sys.modules, "offrl_jax.algorithms.rule", module)
    load_policy(result.run_dir, others[0])
    with pytest.raises(InputError, match=f"seed_index={lost} of .* diverged"):
        load_policy(result.run_dir, lost)
    seen(f"seed {lost}: {result.diverged[lost]}; 2 others bit-identical")


def test_a_frozen_seed_stays_so_when_the_run_is_resumed(healthy, tmp_path):
    limit = limit_of(healthy, 1)
    whole = fragile_run(tmp_path / "whole", limit)
    logged = []
    with pytest.raises(Exception, match="stopped at step 9"):
        fragile_run(
            tmp_path / "run",
            limit,
            log=logged.append,
            stop=lambda: sum("noise/loss" in row for row in logged) == 3,
        )
    resumed = fragile_run(tmp_path / "run", limit)
    assert resumed.diverged == whole.diverged
    jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)


def test_a_run_may_be_asked_to_fail_on_divergence(healthy, tmp_path):
    result = fragile_run(tmp_path / "run", limit_of(healthy, 1), fail_on_divergence=True)
    assert "1 of 3 seeds diverged" in result.failed
    assert rows(result.run_dir / "metrics.jsonl")[-1]["step"] == 12  # the others went on
    assert not (result.run_dir / "DONE").exists()
    assert json.loads((result.run_dir / "FAILED.json").read_text())["reason"] == result.failed


def test_a_run_ends_when_all_seeds_are_lost(healthy, tmp_path):
    result = fragile_run(tmp_path / "run", limit_of(healthy, 3))
    assert "3 of 3 seeds diverged" in result.failed
    assert rows(result.run_dir / "metrics.jsonl")[-1]["step"] == 6
    assert (result.run_dir / "FAILED.json").exists()
    again = fragile_run(tmp_path / "run", limit_of(healthy, 3))
    assert again.failed == result.failed and again.num_steps == 0


@pytest.mark.fault(31, "Q explodes", "frozen and reported; non-zero exit where all are lost")
def test_exploding_q(command, tmp_path, seen):
    done = command(
        "--algorithm=sac",
        *SMALL[:5],
        "--config.actor_network=8",
        "--config.critic_network=8",
        "--config.batch_size=8",
        "--reward_bias=1e25",
        f"--run_dir={tmp_path / 'run'}",
    )
    assert done.code == command_line.FAILED_CODE, done
    last = done.stderr.splitlines()[-1]
    seen(last)
    assert last.startswith("error: 2 of 2 seeds diverged (seed 0: ") and "at step 10" in last
    assert "warning: seed 1 diverged and was frozen" in done.stdout
    assert "2 of 2" in json.loads((tmp_path / "run" / "FAILED.json").read_text())["reason"]


def test_the_limit_of_divergence_can_be_lowered(healthy, tmp_path):
    result = fragile_run(tmp_path / "run", 0.0, divergence_limit=1e-6)
    assert all("noise/loss is" in why and "at step 3" in why for why in result.diverged)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two checkpoints, of 5 and 7 steps, and their state."""
    folder = tmp_path_factory.mktemp("checkpoints")
    state = {
        "step": jnp.int32(5),
        "kernel": jax.random.normal(jax.random.key(0), (3, 40, 40)),
        "bias": jnp.arange(3000.0).reshape(3, 1000),
    }
    store = Checkpoints(folder)
    store.save(5, state)
    store.save(7, state | {"step": jnp.int32(7)})
    store.close()
    return folder, state


def restored_step(folder, state):
    """The step that was restored, whole."""
    store = Checkpoints(folder)
    step, found, _ = store.restore(jax.eval_shape(lambda: state))
    store.abandon()
    assert found["step"] == step
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(found[name], state[name])
    return step


@pytest.mark.fault(36, "newest checkpoint flipped or truncated", "never a wrong restore")
@pytest.mark.parametrize("number", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_corruptions(checkpoints, tmp_path, seen, number):
    folder, state = checkpoints
    rng = random.Random(0)
    files = sorted(p.relative_to(folder) for p in (folder / "7").rglob("*") if p.is_file())
    steps = []
    for i in range(number):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        victim = copy / rng.choice(files)
        content = bytearray(victim.read_bytes())
        if i % 2 and content:
            bit = rng.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
        else:
            content = content[: rng.randrange(len(content)) if content else 0]
        victim.write_bytes(content)
        steps.append(restored_step(copy, state))
    assert set(steps) == {5, 7}  # 7 where the damage was in what nothing depends on
    seen(f"{number} corruptions: the one before {steps.count(5)} times, else the newest, whole")


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.fault(24, "a pickle in a checkpoint", "refused, nothing run")
def test_a_pickle_in_a_checkpoint(checkpoints, tmp_path, seen):
    folder, state = checkpoints
    for i, victim in enumerate(p for p in (folder / "7").rglob("*") if p.is_file()):
        copy = tmp_path / str(i)
        shutil.copytree(folder, copy)
        trap = Trap(str(tmp_path / "sprung"))
        (copy / victim.relative_to(folder)).write_bytes(pickle.dumps(trap))
        assert restored_step(copy, state) in (5, 7)
    assert not (tmp_path / "sprung").exists()
    seen("the checkpoint before is taken, nothing is run")


@pytest.fixture
def finished(command, tmp_path):
    """A finished run and its flags."""
    flags = ("--algorithm=bc", *SMALL, f"--run_dir={tmp_path / 'run'}")
    done = command(*flags)
    assert done.code == 0, done
    return flags


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "run.lock"}


def assert_left_alone(command, flags, folder, words, seen):
    before = contents(folder)
    done = command(*flags)
    last = done.stderr.splitlines()[-1]
    seen(last.replace(f"{folder.parent}/", ""))
    assert done.code == command_line.ERROR_CODE, done
    assert last.startswith("error: ") and all(word in last for word in words), last
    assert contents(folder) == before


@pytest.mark.fault(37, "changed config", "plain sentence with the difference")
def test_a_changed_config(command, finished, tmp_path, seen):
    words = "config.learning_rate was 0.001, now 0.002", "allow_config_change"
    assert_left_alone(
        command, [*finished, "--config.learning_rate=0.002"], tmp_path / "run", words, seen
    )
    words = ("dataset.fingerprint was ",)
    changed = [*finished, "--dataset=pointmaze/umaze-700"]
    assert_left_alone(command, changed, tmp_path / "run", words, seen)


@pytest.mark.fault(38, "other seed count", "plain sentence")
def test_another_number_of_seeds(command, finished, tmp_path, seen):
    flags = [*finished, "--num_seeds=3"]
    words = "num_seeds was 2, now 3", "cannot be changed", "another --run_dir"
    for allowed in ([], ["--allow_config_change"]):
        assert_left_alone(command, [*flags, *allowed], tmp_path / "run", words, seen)


@pytest.mark.fault(39, "two runs in one directory", "plain sentence")
def test_two_runs_in_one_directory(command, tmp_path, seen):
    held = RunDirectory(tmp_path / "run", {}, {})
    flags = ["--algorithm=bc", *SMALL, f"--run_dir={tmp_path / 'run'}", "--allow_config_change"]
    words = "in use by process", str(os.getpid())
    assert_left_alone(command, flags, tmp_path / "run", words, seen)
    held.close()
    RunDirectory(tmp_path / "run", {}, {}).close()


@pytest.mark.fault(40, "read-only path or a file as run directory", "plain sentence")
def test_unusable_run_directories(refused, command, tmp_path, seen):
    (tmp_path / "file").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    for path, words in (
        ("/proc/run", ("/proc/run", "give another")),
        (tmp_path / "file", ("is a file",)),
        (tmp_path / "file" / "run", ("not writable",)),
        (folder, ("holds thesis.tex but no run",)),
    ):
        done = command("--algorithm=bc", *SMALL, f"--run_dir={path}")
        last = done.stderr.splitlines()[-1]
        assert done.code == command_line.ERROR_CODE, done
        assert last.startswith("error: ") and all(word in last for word in words), last
        seen(last.replace(f"{tmp_path}/", ""))
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.fault(41, "device out of memory from too many seeds", "suggests --seed_batch")
def test_too_many_seeds_for_the_device(command, tmp_path, seen):
    done = command(
        "--algorithm=bc",
        "--dataset=pointmaze/umaze-600",
        "--num_seeds=1000",
        "--num_steps=20",
        "--num_evaluations=2",
        "--num_evaluation_episodes=0",
        "--config.network=65536x65536",  # 17 TB of parameters
        f"--run_dir={tmp_path / 'run'}",
    )
    last = done.stderr.splitlines()[-1]
    seen(last)
    assert done.code == command_line.ERROR_CODE, done
    assert "1000 seeds" in last and "seed_batch=500 with " in last
    reason = json.loads((tmp_path / "run" / "FAILED.json").read_text())["reason"]
    assert "Out of memory" in reason or "RESOURCE_EXHAUSTED" in reason


class Offline:
    """A logging package whose service cannot be reached."""

    class SummaryWriter:
        def __init__(self, path):
            pass

        def add_scalar(self, *arguments):
            raise ConnectionError("no route to host")

        def close(self):
            raise ConnectionError("no route to host")

    @staticmethod
    def init(**options):
        raise TimeoutError("no route to host")


@pytest.mark.fault(43, "logger absent or offline", "training unaffected")
@pytest.mark.parametrize("package", few({"absent": None, "offline": Offline}, ["offline"]))
def test_loggers_that_fail(command, monkeypatch, tmp_path, seen, caplog, package):
    for name in ("tensorboardX", "wandb"):
        monkeypatch.setitem(__import__("sys").modules, name, package)
    plain = command("--algorithm=bc", *SMALL, f"--run_dir={tmp_path / 'plain'}")
    logged = command(
        "--algorithm=bc",
        *SMALL,
        f"--run_dir={tmp_path / 'logged'}",
        "--loggers=tensorboard,wandb",
    )
    assert plain.code == logged.code == 0, logged
    for name in ("tensorboard", "wandb"):
        assert caplog.text.count(f"logger {name} is left out") == 1, caplog.text
    for name in ("evaluations.jsonl", "policy/weights.npz"):
        files = [(tmp_path / run / name).read_bytes() for run in ("plain", "logged")]
        assert files[0] == files[1]
    seen(caplog.messages[0])


class Treacherous(Toy):
    """Crashes or hangs in its `doom`-th step, counted over all instances."""

    doom = hang = None
    taken = made = 0

    def __init__(self):
        Treacherous.made += 1

    def step(self, action):
        Treacherous.taken += 1
        if Treacherous.taken == Treacherous.doom:
            if Treacherous.hang:
                time.sleep(Treacherous.hang)
            raise OSError("the simulator has lost its connection")
        return super().step(action)


if "OffrlTreacherous-v0" not in gymnasium.registry:
    gymnasium.register(
        "OffrlTreacherous-v0",
        entry_point=Treacherous,
        disable_env_checker=True,
        max_episode_steps=9,
    )


@pytest.mark.fault(44, "environment crash or hang in evaluation", "marked failed, training goes on")
@pytest.mark.parametrize("hang", [None, 2.0], ids=["crash", "hang"])
def test_environments_that_fail(healthy, tmp_path, monkeypatch, seen, hang):
    steps = sum([2, 3]) * 3  # of an evaluation: 2 episodes of 3 seeds
    for name, value in {"doom": steps + 4, "hang": hang, "taken": 0, "made": 0}.items():
        monkeypatch.setattr(Treacherous, name, value)
    result = train(
        fragile,
        FragileConfig(),
        toy_dataset(env_id="OffrlTreacherous-v0"),
        run_dir=tmp_path / "run",
        evaluation_timeout=0.7,
        **FRAGILE_RUN,
    )
    first, second, *others = rows(tmp_path / "run" / "evaluations.jsonl")
    expected = rows(healthy.run_dir / "evaluations.jsonl")
    words = "within 0.7 s" if hang else "OSError: the simulator has lost its connection"
    assert second["step"] == 6 and words in second["failed"]
    assert [first, *others] == [expected[0], *expected[2:]]
    assert Treacherous.made == 2 * 6  # anew after the failure, and only then
    jax.tree.map(np.testing.assert_array_equal, result.state, healthy.state)
    assert (tmp_path / "run" / "DONE").exists()
    seen(second["failed"])


@pytest.mark.fault(45, "clock going backwards", "no crash")
def test_a_clock_that_goes_backwards(healthy, tmp_path, monkeypatch, seen):
    clock = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(time, "strftime", lambda form: f"{next(clock)}")
    result = fragile_run(tmp_path / "run", 0.0, checkpoint_seconds=0.0)
    jax.tree.map(np.testing.assert_array_equal, result.state, healthy.state)
    seen("the same run")


def test_default_run_directories_are_new_whatever_the_clock_says(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "19700101-000000")
    for _ in range(2):
        assert command("--algorithm=bc", *SMALL).code == 0
    names = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert names == [f"bc-pointmaze-umaze-600-19700101-000000{end}" for end in ("", "-2")]
