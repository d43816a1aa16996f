"""A sweep by two processes, which meet at an address of this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.command_line import STOPPED_CODE
from tests.commands import run_apart

ROOT = Path(__file__).parents[2]
SWEEP = (
    "--algorithm=bc",
    "--datasets=pointmaze/umaze-600",
    "--num_evaluation_episodes=0",
    "--config.batch_size=8",
    "--config.hidden_sizes=8",
)
SMALL = (*SWEEP, "--num_steps=24", "--num_seeds=1", "--num_evaluations=12")  # and as many saves
TWO = "--grid.learning_rate=1e-2,3e-4"
NEAR = {"rtol": 2e-4, "atol": 1e-6}
REFUSED = {  # case: flags beside SMALL, and words of the sentence
    "no number": (["--coordinator=localhost:1"], "give all three, or --coordinator=auto alone"),
    "no coordinator": (["--num_processes=2", "--process_id=0"], "give all three"),
    "auto and numbers": (["--coordinator=auto", "--num_processes=2", "--process_id=0"], "alone"),
    **{
        address: (
            [f"--coordinator={address}", "--num_processes=1", "--process_id=0"],
            f"coordinator={address} is no address of process 0; give HOST:PORT",
        )
        for address in ("a", "8476", ":8476", "localhost:0", "localhost:65536")
    },
    "too high": (
        ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
        "process_id=2 of num_processes=2; they count from 0",
    ),
    "nobody there": (
        ["--coordinator=localhost:1", "--num_processes=2", "--process_id=1"],
        "did not all come within --initialization_timeout=1 s",
    ),
    "no cluster": (["--coordinator=auto", "--initialization_timeout=99"], "cannot be joined"),
    "taken port": (
        ["--num_processes=2", "--process_id=0", "--initialization_timeout=99"],  # and coordinator
        "perhaps another program has that port",
    ),
    "launcher": (["--coordinator=auto", "--launcher=local"], "goes without --launcher"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    """Returns when somebody listens there, as process 0 does for the others."""
    while True:
        assert process.poll() is None
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("localhost", port)),
        ):
            return
        time.sleep(0.01)


class Processes:
    """The same command several times, as processes that share it."""

    def __init__(self, folder, name, *flags, number=2):
        self.path, self.number = folder / name, number
        self._folder, self._flags = folder, [*flags, f"--sweep_dir={self.path}"]

    def start(self, *, port=None, only=None, own=((), ())):
        """Starts all or the first ones, each perhaps with flags of its own."""
        address = f"localhost:{port or free_port()}"
        environment = os.environ | {
            "OFFRL_JAX_CACHE": str(self._folder / "cache"),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
        }
        self.running = []
        for i in range(only or self.number):
            place = f"--coordinator={address}", f"--num_processes={self.number}"
            command = [sys.executable, "-m", "experiments.sweep", *self._flags, *place]
            with self._log(i).open("ab") as log:
                self.running.append(
                    subprocess.Popen(
                        [*command, f"--process_id={i}", "--initialization_timeout=100", *own[i]],
                        stdout=log,
                        stderr=log,
                        cwd=ROOT,
                        env=environment,
                    )
                )

    def codes(self):
        return [process.wait() for process in self.running]

    def finish(self):
        self.start()
        assert self.codes() == [0] * self.number, self.log(0)[-1500:] + self.log(1)[-1500:]

    def log(self, i):
        return self._log(i).read_text()

    def _log(self, i):
        return self._folder / f"{self.path.name}.{i}.log"

    def rows(self, i):
        """How many there are of that process's part of the first job."""
        path = self.path / f"jobs/1/process-{i}/metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0


def rows(path):
    lines = path.read_text().splitlines()
    return [json.loads(line) | {"steps_per_second": 0} for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def two(folder):
    processes = Processes(folder, "two", *SMALL, TWO)
    processes.finish()
    return processes


@pytest.fixture(scope="module")
def one(folder, two):
    """What one process leaves, and what it says to bad input."""
    cases = {"one": [*SMALL, TWO, f"--sweep_dir={folder / 'one'}"]}
    for name, (flags, _) in REFUSED.items():
        refused = [*SMALL, TWO, "--initialization_timeout=1", *flags]
        cases[name] = [*refused, f"--sweep_dir={folder / 'refused'}"]
    cases["another number"] = [*SMALL, TWO, f"--sweep_dir={two.path}"]
    cases["nowhere"] = [*SMALL, TWO, "--coordinator=auto"]
    with socket.create_server(("localhost", 0)) as taken:
        cases["taken port"].append(f"--coordinator=localhost:{taken.getsockname()[1]}")
        return run_apart("sweep", cases, OFFRL_JAX_CACHE=str(folder / "cache"))


def test_two_processes_equal_one(folder, one, two):
    assert one["one"]["code"] == 0, one["one"]
    assert "runs 1 to 1 of each here" in two.log(0) and "runs 2 to 2 of each here" in two.log(1)
    assert "best:" not in two.log(1)
    names = [sorted(p.name for p in (folder / name / "runs").iterdir()) for name in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 2
    assert not (folder / "two" / "jobs").exists()
    for name in names[0]:
        expected, found = (folder / sweep / "runs" / name for sweep in ("one", "two"))
        assert {p.name for p in found.iterdir()} == {p.name for p in expected.iterdir()}
        assert (found / "config.json").read_bytes() == (expected / "config.json").read_bytes()
        for row, other in zip(*(rows(p / "metrics.jsonl") for p in (found, expected)), strict=True):
            assert row.keys() == other.keys()
            for key in row:
                np.testing.assert_allclose(row[key], other[key], **NEAR)
        weights, others = (np.load(p / "policy/weights.npz") for p in (found, expected))
        for key in others:
            np.testing.assert_allclose(weights[key], others[key], **NEAR)


def test_another_number_of_processes_is_refused(one):
    found = one["another number"]
    assert found["code"] == 2 and "num_processes was 2, now null" in found["err"]


@pytest.mark.parametrize("case", REFUSED)
def test_bad_places_are_one_sentence_before_anything_is_written(folder, one, case):
    found, words = one[case], REFUSED[case][1]
    *before, last = found["err"].splitlines()
    assert all(line.startswith("waiting for ") for line in before)
    assert found["code"] == 2 and last.startswith("error: ") and words in last, found
    assert not (folder / "refused").exists()


def test_processes_need_a_directory_that_they_share(one):
    assert (
        one["nowhere"]["code"] == 2
        and "--coordinator needs the --sweep_dir" in one["nowhere"]["err"]
    )


def test_one_that_waits_can_be_stopped_and_other_flags_are_refused_by_all(folder):
    processes, port = Processes(folder, "others", *SMALL, TWO), free_port()
    processes.start(port=port, only=1)
    wait_for(port, processes.running[0])
    processes.running[0].send_signal(signal.SIGINT)
    assert processes.codes() == [STOPPED_CODE] and "Traceback" not in processes.log(0)
    assert "stopped before all processes had come" in processes.log(0)
    processes.start(port=port, own=((), ("--seed=1",)))
    assert processes.codes() == [2, 2]
    words = "process 1 was given other flags than process 0"
    assert all(words in processes.log(i) for i in range(2)) and not processes.path.exists()


def killed_and_finished(processes, number, after):
    """Kills one process after that many rows of its part; the other one saves and stops."""
    processes.start()
    deadline = time.monotonic() + 120
    while processes.rows(number) < after and time.monotonic() < deadline:
        assert processes.running[number].poll() is None, processes.log(number)[-1500:]
        time.sleep(0.002)
    processes.running[number].kill()
    codes = processes.codes()
    assert codes[number] == -signal.SIGKILL and codes[1 - number] == STOPPED_CODE
    assert "another process of this job is gone" in processes.log(1 - number)
    assert not (processes.path / "table.txt").exists()
    processes.finish()


def assert_same(found, expected):
    for name in ("table.txt", "table.csv", "table.json", "table.png"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert not (found / "jobs").exists()
    for run in (expected / "runs").iterdir():
        other = found / "runs" / run.name
        for name in ("config.json", "policy/policy.json", "policy/weights.npz"):
            assert (other / name).read_bytes() == (run / name).read_bytes(), name
        assert rows(other / "metrics.jsonl") == rows(run / "metrics.jsonl")
        evaluations = [path / "evaluations.jsonl" for path in (other, run)]
        assert evaluations[0].exists() == evaluations[1].exists()


@pytest.mark.fault(
    33, "kill -9 of one of two processes on a sweep", "the other stops; then the same table"
)
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_process_is_killed_and_all_are_started_again(folder, two, number, seen):
    """Where the coordinator lives it is noticed at once; elsewhere by JAX after 100 seconds."""
    after = int(os.environ.get("ROWS", 3))
    processes = Processes(folder, f"killed-{number}-{after}", *SMALL, TWO)
    killed_and_finished(processes, number, after)
    assert_same(processes.path, two.path)
    seen(f"process {number} killed after {after} of 12 rows, the same to the byte")


@pytest.mark.slow
def test_two_processes_told_to_stop_save_and_go_on(folder, two):
    processes = Processes(folder, "stopped", *SMALL, TWO)
    processes.start()
    while processes.rows(0) < 5 and processes.running[0].poll() is None:
        time.sleep(0.002)
    processes.running[0].send_signal(signal.SIGTERM)
    assert processes.codes() == [STOPPED_CODE] * 2
    assert f"the same command with --sweep_dir={processes.path} goes on" in processes.log(1)
    processes.finish()
    assert_same(processes.path, two.path)


def slurm_link(port, i):
    """The link of one of two tasks, as srun would start it; this machine stands in for a node."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.host_link", "auto", "None", "None", "ab"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
        env=os.environ
        | {
            "SLURM_JOB_ID": "1",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(i),
            "SLURM_LOCALID": str(i),
            "JAX_COORDINATOR_PORT": str(port),
        },
    )


def test_slurm_tells_every_task_its_place_and_its_device():
    """One that was left while it waited for the others is gone, and in nobody's way."""
    port = free_port()
    left = slurm_link(port, 0)
    try:
        wait_for(port, left)
        left.stdin.close()
        assert left.wait(timeout=20) == 1
    finally:
        left.kill()
    links = [slurm_link(port, i) for i in range(2)]
    for link in links:
        link.stdin.write("end\n")  # which each waits for the other to read
        link.stdin.flush()
    told = [link.communicate(timeout=100)[0] for link in links]
    for i, out in enumerate(told):
        place = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
        assert place == {
            "process_id": i,
            "num_processes": 2,
            "cuda_devices": str(i),
            "given_others": [],
        }
    assert [link.returncode for link in links] == [0, 0]
