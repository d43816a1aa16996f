import threading
import time

import pytest

from offrl_jax.evaluation.watchdog import Failed, Halted, watched


@pytest.fixture
def release():
    """Lets go of threads that a test left hanging."""
    event = threading.Event()
    yield event
    event.set()


def seconds_of(do):
    clock = time.monotonic()
    do()
    return time.monotonic() - clock


def test_what_the_work_returns_is_returned():
    assert watched(lambda tick: "result", 60) == "result"


def test_an_error_is_told_with_type_and_text_and_kept_as_the_cause():
    def work(tick):
        raise KeyError("leg 3 broke")

    with pytest.raises(Failed, match="KeyError: 'leg 3 broke'") as caught:
        watched(work, 60)
    assert isinstance(caught.value.__cause__, KeyError)


def test_leaving_the_process_is_an_error_too():
    def work(tick):
        raise SystemExit(3)

    with pytest.raises(Failed, match="SystemExit: 3"):
        watched(work, 60)


def test_work_without_a_sign_of_life_fails_in_about_that_time(release):
    def call():
        with pytest.raises(Failed, match=r"no environment step ended within 0\.3 s"):
            watched(lambda tick: release.wait(60), 0.3)

    assert 0.3 <= seconds_of(call) < 5


def test_work_that_shows_life_may_take_longer():
    def work(tick):
        for _ in range(12):
            time.sleep(0.1)
            tick()
        return "late"

    assert watched(work, 1.0) == "late"


def test_the_time_counts_from_the_last_sign_of_life(release):
    def work(tick):
        tick()
        release.wait(60)

    with pytest.raises(Failed, match="no environment step"):
        watched(work, 0.3)


def test_told_to_stop_it_halts_though_the_work_hangs(release):
    def call():
        with pytest.raises(Halted):
            watched(lambda tick: release.wait(60), 60, stop=lambda: True)

    assert seconds_of(call) < 10


def test_told_to_stop_the_work_ends_at_its_next_sign_of_life():
    ended, stop = threading.Event(), threading.Event()

    def work(tick):
        try:
            while True:
                time.sleep(0.01)
                tick()
                stop.set()
        finally:
            ended.set()

    with pytest.raises(Halted):
        watched(work, 60, stop=stop.is_set)
    assert ended.is_set()


def test_work_given_up_ends_when_it_wakes(release):
    ended = threading.Event()

    def work(tick):
        release.wait(60)
        try:
            tick()
        except Halted:
            ended.set()
            raise

    with pytest.raises(Failed):
        watched(work, 0.2)
    release.set()
    assert ended.wait(10)


def test_an_interrupted_wait_ends_the_work():
    """As by Ctrl-C where nothing handles it."""
    ended = threading.Event()

    def work(tick):
        try:
            while True:
                time.sleep(0.01)
                tick()
        finally:
            ended.set()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(work, 60, stop)
    assert ended.wait(5)


def test_a_thread_that_hangs_keeps_no_process_alive(release):
    started = []

    def work(tick):
        started.append(threading.current_thread())
        release.wait(60)

    with pytest.raises(Failed):
        watched(work, 0.1)
    assert started[0].is_alive() and started[0].daemon
