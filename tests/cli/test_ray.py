"""Sweeps by Ray: its own tasks, and a cluster of two nodes on this machine's loopback address."""

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from offrl_jax.cli.launchers import run
from offrl_jax.types import InputError
from tests.markdown import ROOT
from tests.tasks import STOPPABLE, python

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed; pip install -e '.[ray]'", allow_module_level=True)
pytestmark = pytest.mark.slow

SWEEP = (
    "--algorithm=bc",
    "--dataset=pointmaze/umaze-600",
    "--num_seeds=2",
    "--num_steps=40000",
    "--num_evaluations=2",
    "--num_evaluation_episodes=1",
    "--checkpoint_seconds=0",
    "--config.network=8",
    "--grid.batch_size=8,16",
    "--grid.learning_rate=1e-2,3e-3,1e-3,3e-4",
    "--runs_per_job=2",
)


@pytest.fixture(autouse=True)
def private_ray(monkeypatch):
    """Ray without statistics, on loopback, and apart from other clusters of this machine."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # pytest's is too long for a socket
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_ADDRESS", "local")  # without an address, a Ray of its own
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # only loopback addresses
        yield


@pytest.fixture
def cluster():
    """Makes a cluster whose head has that many CPUs, and says that it has so many GPUs."""
    from ray.cluster_utils import Cluster

    with contextlib.ExitStack() as stack:

        def make(num_cpus, num_gpus=0, **options):
            node = {"num_cpus": num_cpus, "num_gpus": num_gpus, "node_ip_address": "127.0.0.1"}
            cluster = Cluster(True, head_node_args=node | {"include_dashboard": False}, **options)
            stack.callback(cluster.shutdown)
            return cluster

        yield make


def wait_for(is_over, seconds=120):
    deadline = time.monotonic() + seconds
    while not is_over():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_commands_run_and_failures_are_named(tmp_path, capsys):
    commands = {
        "good": python("import sys; open(sys.argv[1], 'w')", tmp_path / "file"),
        "bad": python("print('no', flush=True); raise SystemExit(2)"),
    }
    failed = run(commands, tmp_path / "tasks", "ray", ["num_cpus=1"])
    assert list(failed) == ["bad"] and failed["bad"].read_text() == "no\n"
    assert (tmp_path / "file").exists()
    assert ": 1 of 2 jobs done, 1 failed after 0:" in capsys.readouterr().err


def test_what_was_stopped_and_what_was_lost_goes_on(tmp_path):
    """SIGTERM to a command, and SIGKILL to the worker that runs another."""
    commands = {name: python(STOPPABLE, tmp_path / name) for name in ("stopped", "lost")}
    for name in commands:
        (tmp_path / name).mkdir()
    found, told = [], (commands, tmp_path / "tasks", "ray", ["num_cpus=0.5"])
    thread = threading.Thread(target=lambda: found.append(run(*told)))
    thread.start()
    pids = {}
    for name in commands:
        wait_for(lambda path=tmp_path / name / "started": path.exists() and path.read_text())
        pids[name] = int((tmp_path / name / "started").read_text())
    os.kill(pids["stopped"], signal.SIGTERM)
    (tmp_path / "lost" / "saved").touch()
    os.kill(int((tmp_path / "lost" / "parent").read_text()), signal.SIGKILL)
    thread.join(120)
    assert found == [{}]
    assert all((tmp_path / name / "went_on").exists() for name in commands)
    with pytest.raises(ProcessLookupError):
        os.kill(pids["lost"], 0)  # it did not outlive its worker


@pytest.mark.parametrize("option", ["num_cpus", "no_such_thing=1", "address=127.0.0.1:1"])
def test_options_that_ray_does_not_know_are_a_sentence(tmp_path, option):
    with pytest.raises(InputError, match=rf"launcher_options={option} cannot be used"):
        run({}, tmp_path / "tasks", "ray", [option])


def test_a_task_keeps_to_its_resources(tmp_path, cluster):
    names = "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"
    commands = {"job": python("import os, sys; print(*map(os.getenv, sys.argv[1:]))", *names)}
    options = [f"address={cluster(3, 1).address}", "num_cpus=2", "num_gpus=0.25"]
    assert run(commands, tmp_path / "tasks", "ray", options) == {}
    assert (tmp_path / "tasks" / "job.log").read_text() == "2 0 0.225\n"


def test_more_than_any_machine_has_is_waited_for_with_a_word(tmp_path, cluster, capsys):
    options = [f"address={cluster(1).address}", "num_cpus=0.5", "num_gpus=3"]
    assert run({}, tmp_path / "tasks", "ray", options) == {}
    words = "no machine of the cluster has num_cpus=0.5 and num_gpus=3; the jobs wait until"
    assert words in capsys.readouterr().err


def jobs_on(node):
    """The numbers of the sweep's jobs that run there."""
    parents, words = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(status[1])
            words[int(folder.name)] = (folder / "cmdline").read_text()
    (raylet,) = node.all_processes["raylet"]
    own = {pid for pid, parent in parents.items() if parents.get(parent) == raylet.process.pid}
    return {int(n) for pid in own for n in re.findall(r"--job=(\d+)", words[pid])}


def sweep(path, *flags, **environment):
    with path.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "offrl_jax.cli.sweep", *SWEEP, f"--sweep_dir={path}", *flags],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=os.environ | environment,
        )


def rows(path):
    lines = path.read_text().splitlines()
    return [json.loads(line) | {"steps_per_second": 0} for line in lines]


def test_a_node_is_lost_in_mid_sweep_and_nothing_else_is(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    expected, found = tmp_path / "expected", tmp_path / "found"
    assert sweep(expected, JAX_NUM_CPU_DEVICES="1").wait() == 0
    nodes = cluster(1)
    lost = nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    options = f"--launcher_options=address={nodes.address},num_cpus=1"
    process = sweep(found, "--launcher=ray", options)

    def has_saved(number):
        steps = (found / f"jobs/{number}/checkpoints").glob("*")
        return any(step.name.isdigit() for step in steps)  # others are being written

    try:
        wait_for(lambda: any(map(has_saved, jobs_on(lost))) and jobs_on(nodes.head_node))
        interrupted = jobs_on(lost)
        nodes.remove_node(lost, allow_graceful=False)
        assert process.wait() == 0, found.with_suffix(".log").read_text()
    finally:
        process.kill()
    log = found.with_suffix(".log").read_text()
    assert "8 of 8 jobs done after" in log
    for number in interrupted:
        assert "resuming from step" in (found / f"tasks/job_{number}.log").read_text()
    for name in ("table.txt", "table.json", "table.png"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    runs = sorted(path.name for path in (expected / "runs").iterdir())
    assert sorted(path.name for path in (found / "runs").iterdir()) == runs and len(runs) == 8
    assert not (found / "jobs").exists()
    for name in runs:
        for file in (
            "config.json",
            "evaluations.jsonl",
            "policy/policy.json",
            "policy/weights.npz",
        ):
            files = [path / "runs" / name / file for path in (found, expected)]
            assert files[0].read_bytes() == files[1].read_bytes(), (name, file)
        metrics = [rows(path / "runs" / name / "metrics.jsonl") for path in (found, expected)]
        assert metrics[0] == metrics[1]


def mounted_over(folder, function):
    """Calls it in a thread that sees the folder "other" there, as do processes that it starts."""
    libc, new_mounts, recursive, private, bind = ctypes.CDLL(None), 0x20000, 0x4000, 1 << 18, 0x1000
    codes = []

    def inside():
        codes.append(libc.unshare(new_mounts))
        if codes[-1] == 0:
            codes.append(libc.mount(b"none", b"/", None, recursive | private, None))
            other, path = (bytes(p) for p in (folder.with_name("other"), folder))
            codes.append(libc.mount(other, path, None, bind, None))
            function()

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if any(codes):
        pytest.skip("this user may not mount folders")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts of one process are Linux's")
def test_a_node_that_sees_another_folder_is_named_in_a_sentence(tmp_path, cluster):
    for name in ("shared", "other"):
        (tmp_path / name).mkdir()
    nodes = cluster(0, shutdown_at_exit=False)  # by signals, which a thread cannot set
    add = functools.partial(nodes.add_node, num_cpus=1, node_ip_address="127.0.0.1")
    mounted_over(tmp_path / "shared", add)
    folder, started = tmp_path / "shared" / "tasks", tmp_path / "started"
    commands = {"job 1": python("import sys; open(sys.argv[1], 'w')", started)}
    words = f"does not see the files that were just written to {folder}; mount the same file system"
    with pytest.raises(InputError, match=re.escape(words)):
        run(commands, folder, "ray", [f"address={nodes.address}", "num_cpus=1"])
    assert not started.exists() and not any(folder.iterdir())
