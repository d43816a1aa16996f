"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from offrl_jax.runs.messages import say

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Steps, speed, time left, losses and the latest score."""

    def __init__(self, num_steps: int):
        self._num_steps, self._step, self._shown = num_steps, 0, {}
        self._first_step = 0  # of this session
        self._started = self._last_line = time.perf_counter()
        self._bar = _bar(num_steps)

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        """Shows new numbers, possibly of an earlier step; the others stay. Without any, says that
        the run resumes from this step."""
        if not numbers and self._first_step == 0:
            say(f"resuming from step {step:,}")
            self._first_step = step
            self._started = time.perf_counter()
            if self._bar is not None:
                self._bar.initial = self._bar.n = step
            return
        step = self._step = max(step, self._step)
        self._shown |= {name: f"{value:.4g}" for name, value in numbers.items()}
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix(self._shown)
            return
        now = time.perf_counter()
        is_score = not any(name.endswith("loss") for name in numbers)
        if is_score or now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = (step - self._first_step) / (now - self._started)
            shown = "  ".join(f"{name} {value}" for name, value in self._shown.items())
            line = f"step {step:,}/{self._num_steps:,}"
            if rate > 0:
                line += f"  {speed(rate)}  {(self._num_steps - step) / rate:.0f} s left"
            say(f"{line}  {shown}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar(num_steps: int) -> Any:
    """A bar if standard error is a terminal and tqdm is installed; else None, for plain lines."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=num_steps, unit="step")


def speed(rate: float) -> str:
    """Steps a second, with decimals where there are few."""
    return f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s"
