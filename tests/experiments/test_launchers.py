import os
import signal
import sys
import time

import pytest

from experiments.launchers import Task, run
from offrl_jax.types import InputError
from tests.commands import run_apart

submitit = pytest.importorskip("submitit", reason="submitit is not installed; pip install submitit")

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
(folder / "started").touch()
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


@pytest.mark.parametrize("option", ["timeout_min", "no_such_thing=1"])
def test_options_that_submitit_does_not_know_are_a_sentence(tmp_path, option):
    with pytest.raises(InputError, match=rf"launcher_options={option} cannot be used"):
        run({}, tmp_path / "tasks", "local", [option])


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without sbatch
    with pytest.raises(InputError, match="launcher=slurm"):
        run({}, tmp_path / "tasks", "slurm", [])


@pytest.mark.slow
def test_a_sweep_by_tasks_has_the_table_of_one_process(tmp_path):
    flags = ["--algorithm=bc", "--datasets=pointmaze/umaze-600", "--num_seeds=2", "--num_steps=20"]
    flags += ["--num_evaluations=2", "--num_evaluation_episodes=1", "--grid.batch_size=8,16"]
    flags += ["--grid.learning_rate=1e-3,3e-4", "--config.hidden_sizes=8"]
    cases = {
        "tasks": [*flags, "--launcher=local", f"--sweep_dir={tmp_path / 'tasks'}"],
        "process": [*flags, f"--sweep_dir={tmp_path / 'process'}"],
    }
    found = run_apart("sweep", cases, OFFRL_JAX_CACHE=str(tmp_path / "cache"))
    assert [done["code"] for done in found.values()] == [0, 0], found
    tables = [(tmp_path / name / "table.txt").read_bytes() for name in cases]
    assert tables[0] == tables[1]
