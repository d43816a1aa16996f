import itertools
import time

import numpy as np
import pytest

from offrl_jax.evaluation.watchdog import Failed
from offrl_jax.runs.loop import Evaluation

NO_SEED = np.zeros(1, bool)


class Fake:
    """An evaluator that returns its number, or fails."""

    def __init__(self, number, fails):
        self.number, self.fails, self.is_closed = number, fails, False

    def __call__(self, config, state, *, is_lost, tick):
        tick()
        if self.fails or self.is_closed:
            raise OSError("failed or closed")
        return self.number

    def close(self):
        self.is_closed = True


def test_a_failed_evaluator_is_closed_and_another_one_made():
    made = []

    def make():
        made.append(Fake(len(made), fails=not made))
        return made[-1]

    evaluation = Evaluation(make, 10.0, lambda: False)
    with pytest.raises(Failed, match="failed or closed"):
        evaluation(None, None, NO_SEED)
    assert made[0].is_closed
    assert [evaluation(None, None, NO_SEED) for _ in range(2)] == [1, 1]
    evaluation.close()
    assert made[1].is_closed and len(made) == 2


def test_an_evaluator_that_was_made_too_late_is_not_used():
    numbers = itertools.count()

    def make():
        number = next(numbers)
        if number == 1:
            time.sleep(0.6)
        return Fake(number, fails=number == 0)

    evaluation = Evaluation(make, 0.3, lambda: False)
    for words in ("failed or closed", "within 0.3 s"):
        with pytest.raises(Failed, match=words):
            evaluation(None, None, NO_SEED)
    time.sleep(0.6)
    assert evaluation(None, None, NO_SEED) == 2


def test_closing_may_fail_or_hang():
    evaluator = Fake(0, fails=False)
    evaluator.close = lambda: time.sleep(5)
    start = time.monotonic()
    Evaluation(lambda: evaluator, 0.2, lambda: False).close()
    assert time.monotonic() - start < 2
