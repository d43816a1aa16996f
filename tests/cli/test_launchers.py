import os
import signal
import socket
import sys
import time

import pytest

from offrl_jax.cli.launchers import Task, attempt, run
from offrl_jax.types import InputError
from tests.commands import run_apart
from tests.tasks import STOPPABLE, python

submitit = pytest.importorskip("submitit", reason="submitit is not installed; pip install submitit")


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


@pytest.mark.slow
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


def test_an_attempt_runs_a_command_with_what_the_machine_has_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("SET", "here")
    code = "import os, sys; print(os.getcwd(), os.environ['SET'], os.environ['UNSET']); sys.exit(4)"
    output, variables = tmp_path / "output", {"SET": "there", "UNSET": "there"}
    (tmp_path / "marker").touch()
    told = python(code), str(tmp_path), output, tmp_path / "marker", variables
    assert attempt(*told) == 4 and output.read_text() == f"{tmp_path} here there\n"


def test_a_machine_that_cannot_run_a_command_says_so_in_a_sentence(tmp_path):
    (tmp_path / "marker").touch()
    command, output = python("open('started', 'w')"), tmp_path / "output"
    elsewhere = attempt(command, str(tmp_path), output, tmp_path / "other" / "marker", {})
    words = f"{socket.gethostname()} does not see the files that were just written to"
    assert elsewhere.startswith(f"{words} {tmp_path / 'other'}; mount the same file system there")
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]
    absent = str(tmp_path / "absent")
    uninstalled = attempt(command, absent, output, tmp_path / "marker", {})
    assert f"cannot run {sys.executable} in {absent} (" in uninstalled
    assert uninstalled.endswith(
        "; install the package at the same path on all machines of the cluster"
    )


def test_without_ray_the_launcher_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="needs ray"):
        run({}, tmp_path / "tasks", "ray", [])


SWEEP = ["--algorithm=bc", "--dataset=pointmaze/umaze-600", "--num_seeds=2"]
SWEEP += ["--num_evaluations=2", "--num_evaluation_episodes=1", "--config.network=8"]


def sweeps(tmp_path, *flags, options=()):
    """What a sweep by tasks of this machine prints; its table is that of one process."""
    flags = [*SWEEP, *flags]
    cases = {
        "process": [*flags, f"--sweep_dir={tmp_path / 'process'}"],
        "local": [*flags, f"--sweep_dir={tmp_path / 'local'}", "--launcher=local", *options],
    }
    found = run_apart("sweep", cases, OFFRL_JAX_CACHE=str(tmp_path / "cache"))
    assert not any(done["code"] for done in found.values()), found
    assert len({(tmp_path / name / "table.txt").read_bytes() for name in cases}) == 1
    return found["local"]["err"]


@pytest.mark.slow
def test_a_sweep_by_tasks_has_the_table_of_one_process(tmp_path):
    flags = ["--num_steps=20", "--grid.batch_size=8,16", "--grid.learning_rate=1e-3,3e-4"]
    assert ": 2 of 2 jobs done after 0:" in sweeps(tmp_path, *flags)


@pytest.mark.slow
def test_a_sweep_out_of_time_is_queued_again_and_goes_on(tmp_path):
    """submitit signals it 30 seconds before its minute is over, every minute."""
    flags = ["--num_steps=200000", "--grid.learning_rate=1e-3,3e-4", "--config.batch_size=64"]
    sweeps(tmp_path, *flags, options=["--launcher_options=timeout_min=1"])
    logs = [path.read_text() for path in (tmp_path / "local" / "tasks").glob("*.err")]
    assert any("SIGTERM: stopping when this chunk" in log for log in logs)
