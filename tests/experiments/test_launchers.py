import importlib.util
import os
import signal
import sys
import threading
import time

import pytest

from experiments.launchers import Task, run
from offrl_jax.types import InputError
from tests.commands import run_apart

submitit = pytest.importorskip("submitit", reason="submitit is not installed; pip install submitit")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install ray"
)

STOPPABLE = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])

def save(*_):
    time.sleep(0.2)
    (folder / "saved").touch()
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
if (folder / "saved").exists():
    (folder / "went_on").touch()
    sys.exit(0)
(folder / "parent").write_text(str(os.getppid()))
(folder / "started").write_text(str(os.getpid()))
time.sleep(60)
"""


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_commands_run_and_failures_are_named(tmp_path):
    commands = {
        "good": python("import sys; open(sys.argv[1], 'w')", tmp_path / "file"),
        "bad": python("raise SystemExit(2)"),
    }
    failed = run(commands, tmp_path / "tasks", "local", ["timeout_min=1"])
    assert list(failed) == ["bad"] and "exit code 2" in failed["bad"].read_text()
    assert (tmp_path / "file").exists()


def test_a_task_whose_machine_is_taken_away_saves_and_goes_on(tmp_path):
    executor = submitit.LocalExecutor(tmp_path / "tasks")
    executor.update_parameters(timeout_min=1)
    job = executor.submit(Task(python(STOPPABLE, tmp_path)))
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(int((tmp_path / "parent").read_text()), signal.SIGUSR2)  # as submitit has Slurm do
    assert job.exception() is None
    assert (tmp_path / "saved").exists() and (tmp_path / "went_on").exists()


def test_a_task_whose_time_is_over_saves_and_goes_on(tmp_path):
    """submitit's own time-out: its signal 10 seconds after the start, 20 before the end."""
    executor = submitit.LocalExecutor(tmp_path / "tasks")
    executor.update_parameters(timeout_min=0.5, signal_delay_s=20)
    job = executor.submit(Task(python(STOPPABLE, tmp_path)))
    assert job.exception() is None
    assert (tmp_path / "saved").exists() and (tmp_path / "went_on").exists()


@pytest.mark.parametrize("option", ["timeout_min", "timeout_min=0.5", "no_such_thing=1"])
def test_options_that_submitit_does_not_know_are_a_sentence(tmp_path, option):
    with pytest.raises(InputError, match=rf"launcher_options={option} cannot be used"):
        run({}, tmp_path / "tasks", "local", [option])


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without sbatch
    with pytest.raises(InputError, match="launcher=slurm"):
        run({}, tmp_path / "tasks", "slurm", [])


@pytest.fixture
def quiet_ray(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def in_the_background(function, *arguments):
    """What it returns, in a list that is empty until then, and its thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*arguments)))
    thread.start()
    return found, thread


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)


@needs_ray
def test_ray_runs_commands_and_names_failures(tmp_path, quiet_ray):
    commands = {
        "good": python("import sys; open(sys.argv[1], 'w')", tmp_path / "file"),
        "bad": python("print('no', flush=True); raise SystemExit(2)"),
    }
    failed = run(commands, tmp_path / "tasks", "ray", ["num_cpus=1"])
    assert list(failed) == ["bad"] and failed["bad"].read_text() == "no\n"
    assert (tmp_path / "file").exists()


@needs_ray
def test_ray_goes_on_with_what_was_stopped_and_what_was_lost(tmp_path, quiet_ray):
    """SIGTERM to a command, and SIGKILL to the worker that runs another."""
    commands = {name: python(STOPPABLE, tmp_path / name) for name in ("stopped", "lost")}
    for name in commands:
        (tmp_path / name).mkdir()
    found, thread = in_the_background(run, commands, tmp_path / "tasks", "ray", ["num_cpus=0.5"])
    wait_for(tmp_path / "stopped" / "started")
    os.kill(int((tmp_path / "stopped" / "started").read_text()), signal.SIGTERM)
    wait_for(tmp_path / "lost" / "started")
    (tmp_path / "lost" / "saved").touch()
    child = int((tmp_path / "lost" / "started").read_text())
    os.kill(int((tmp_path / "lost" / "parent").read_text()), signal.SIGKILL)
    thread.join(120)
    assert found == [{}]
    assert (tmp_path / "stopped" / "went_on").exists() and (tmp_path / "lost" / "went_on").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)  # it did not outlive its worker


@needs_ray
@pytest.mark.parametrize("option", ["num_cpus", "no_such_thing=1", "address=127.0.0.1:1"])
def test_options_that_ray_does_not_know_are_a_sentence(tmp_path, option, quiet_ray):
    with pytest.raises(InputError, match=rf"launcher_options={option} cannot be used"):
        run({}, tmp_path / "tasks", "ray", [option])


def test_without_ray_the_launcher_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="needs ray"):
        run({}, tmp_path / "tasks", "ray", [])


SWEEP = ["--algorithm=bc", "--datasets=pointmaze/umaze-600", "--num_seeds=2"]
SWEEP += ["--num_evaluations=2", "--num_evaluation_episodes=1", "--config.hidden_sizes=8"]


def sweeps(tmp_path, flags, **launchers):
    """The same sweep by one process and by launchers with these flags: the tables are the same."""
    flags = [*SWEEP, *flags]
    cases = {"process": [*flags, f"--sweep_dir={tmp_path / 'process'}"]}
    for name, more in launchers.items():
        cases[name] = [*flags, f"--launcher={name}", f"--sweep_dir={tmp_path / name}", *more]
    found = run_apart("sweep", cases, OFFRL_JAX_CACHE=str(tmp_path / "cache"))
    assert not any(done["code"] for done in found.values()), found
    tables = {(tmp_path / name / "table.txt").read_bytes() for name in cases}
    assert len(tables) == 1


@pytest.mark.slow
def test_a_sweep_by_tasks_has_the_table_of_one_process(tmp_path):
    flags = ["--num_steps=20", "--grid.batch_size=8,16", "--grid.learning_rate=1e-3,3e-4"]
    sweeps(tmp_path, flags, local=[])


@pytest.mark.slow
def test_a_sweep_out_of_time_is_queued_again_and_goes_on(tmp_path):
    """submitit signals it 30 seconds before its minute is over, every minute."""
    flags = ["--num_steps=200000", "--grid.learning_rate=1e-3,3e-4", "--config.batch_size=64"]
    options = "--launcher_options=timeout_min=1"
    sweeps(tmp_path, flags, local=[options])
    logs = [path.read_text() for path in (tmp_path / "local" / "tasks").glob("*.err")]
    assert any("SIGTERM: stopping when this chunk" in log for log in logs)


@pytest.mark.slow
@needs_ray
def test_a_sweep_by_ray_has_the_table_of_one_process(tmp_path, quiet_ray):
    flags = ["--num_steps=20", "--grid.batch_size=8,16", "--grid.learning_rate=1e-3,3e-4"]
    sweeps(tmp_path, flags, ray=["--launcher_options=num_cpus=1"])
