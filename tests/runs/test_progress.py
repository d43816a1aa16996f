import io

import pytest

from offrl_jax.runs import progress
from offrl_jax.runs.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_a_line_has_steps_speed_time_left_losses_and_score(clock, capsys):
    show = Progress(1000)
    clock.now += 10
    show(200, {"actor/loss": 0.25})
    show(200, {"score": 90.0})
    assert capsys.readouterr().err == (
        "step 200/1,000  20 steps/s  40 s left  actor/loss 0.25  score 90\n"
    )


def test_losses_alone_are_shown_every_ten_seconds(clock, capsys):
    show = Progress(1000)
    for step in range(1, 31):
        clock.now += 1
        show(step, {"actor/loss": step})
    shown = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["step 11", "step 22"]


def test_the_score_of_an_earlier_step_takes_none_back(clock, capsys):
    show = Progress(1000)
    clock.now += 10
    show(400, {"actor/loss": 0.25})
    show(200, {"score": 90.0})
    assert capsys.readouterr().err.startswith("step 400/1,000  40 steps/s  15 s left")


def test_the_speed_of_a_resumed_run_counts_from_where_it_goes_on(clock, capsys):
    show = Progress(1000)
    clock.now += 50  # until it is restored
    show(800, {})
    clock.now += 10
    show(900, {"score": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "resuming from step 800",
        "step 900/1,000  10 steps/s  10 s left  score 1",
    ]


def test_before_any_step_there_is_no_speed(clock, capsys):
    show = Progress(1000)
    show(800, {})
    clock.now += 5
    show(800, {"score": 1.0})  # the evaluation that the interruption cost
    assert capsys.readouterr().err.splitlines()[1] == "step 800/1,000  score 1"


def test_the_bar_of_a_resumed_run_starts_where_it_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    show = Progress(1000)
    show(800, {})
    show(900, {"actor/loss": 0.5})
    assert (show._bar.initial, show._bar.n) == (800, 900)
    show.close()
    assert "900/1000" in capsys.readouterr().err


class Unread(io.StringIO):
    """As stderr is once Ctrl-C has ended the `tee` that read it."""

    def write(self, text):
        raise BrokenPipeError


def test_a_run_outlives_those_who_read_of_it(clock, monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", Unread())
    show = Progress(1000)
    show(800, {})
    clock.now += 10
    show(900, {"score": 1.0})
    show.close()
