"""Signals and full disks, met by real processes."""

import json
import signal
import time

import pytest

from offrl_jax.cli import command_line
from tests.faults.test_kills import Run, assert_same

SLOW_CHUNK = ("--num_steps=1000000", "--num_evaluations=1000", "--config.network=1024x1024")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    run = Run("bc", tmp_path_factory.mktemp("interruptions"), "reference")
    run.finish()
    return run


def beside(reference, name):
    return Run("bc", reference.path.parent, name)


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.fault(34, "SIGTERM", "saved; a second one leaves at once")
@pytest.mark.slow  # by default it is part of the test of a full disk
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_saves_and_stops(reference, seen, number):
    run = beside(reference, number.name)
    process = run.start()
    wait_for(run.steps, process)
    process.send_signal(number)
    assert process.wait(60) == command_line.STOPPED_CODE
    last = run.log().splitlines()[-1]
    assert last.startswith("stopped at step ") and "resumes from there" in last
    assert 0 < run.steps() < reference.steps()
    run.finish()
    assert_same(run, reference)
    seen(f"exit code {command_line.STOPPED_CODE}, resumed to the same bytes")


@pytest.mark.slow
@pytest.mark.fault(34, "SIGTERM", "saved; a second one leaves at once")
def test_a_second_signal_leaves_at_once(reference, seen):
    run = beside(reference, "twice")
    process = run.start(*SLOW_CHUNK)
    wait_for(lambda: (run.path / "environment.json").exists(), process)
    time.sleep(5)  # into the first chunk, which takes minutes
    process.terminate()
    wait_for(lambda: "send it again to exit at once" in run.log(), process)
    start = time.monotonic()
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    seconds = time.monotonic() - start
    assert seconds < 2 and run.steps() == 0
    seen(f"left after {seconds:.1f} s, in the middle of a chunk")


# No file grows beyond 120 KB, less than a checkpoint's arrays: what a full disk looks like.
STARVED = ("bash", "-c", 'ulimit -f 120; exec "$@"', "bash")


@pytest.mark.fault(35, "disk full", "loud, the last good checkpoint kept")
def test_a_full_disk_after_a_kill_and_a_stop(reference, seen):
    run = beside(reference, "full")
    process = run.start()
    wait_for(run.steps, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process, before = run.start(), run.steps()
    wait_for(lambda: run.steps() > before, process)
    process.terminate()
    assert process.wait(60) == command_line.STOPPED_CODE
    assert run.log().splitlines()[-1].startswith("stopped at step ")
    kept = sorted(p.name for p in (run.path / "checkpoints").iterdir())
    process = run.start(before=STARVED)
    assert process.wait(120) == command_line.FAILED_CODE, run.log()
    last = run.log().splitlines()[-1]
    seen(last.replace(f"{run.path.parent}/", ""))
    assert last.startswith("error: ") and "stopped (" in last and "full disk" in last
    assert "checkpoints/" in json.loads((run.path / "FAILED.json").read_text())["reason"]
    assert (
        sorted(p.name for p in (run.path / "checkpoints").iterdir() if "tmp" not in p.name) == kept
    )
    run.finish()
    assert_same(run, reference)
    assert not (run.path / "FAILED.json").exists()
