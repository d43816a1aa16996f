"""A session of a run: the part that one process trains, from a checkpoint or from the start."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax import learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.data.dataset import Data, Dataset
from offrl_jax.data.streaming.feed import Feed
from offrl_jax.evaluation import diagnostics
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts, summarize
from offrl_jax.evaluation.watchdog import POLL_SECONDS, Failed, Halted, watched
from offrl_jax.runs import lost_seeds
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.directory import RowFile, RunDirectory
from offrl_jax.types import InputError, Key

PATIENCE = 10.0  # seconds to wait for an evaluation when the run is asked to stop


class Session:
    """The progress of a run, and the parts of its loop. Each part ends with rows on the disk.

    Attributes:
      step: Updates taken in all phases.
      state: States with leading axis S.
      diverged: For each seed, how and when it diverged, or None.
      metrics: Metrics of the last chunk, shape (S,) each; NaN for diverged seeds.
      rollouts: The last evaluation that ended; None if it failed or there was none.
      seconds: Wall time by part; for evaluations, the time spent waiting for them.
      saved_step: Step of the newest checkpoint.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        config: Any,
        dataset: Data,
        *,
        keys: Key,
        names: Sequence[str],
        directory: RunDirectory,
        checkpoints: Checkpoints,
        log: Callable[[dict[str, Any]], None],
        report: Callable[[int, dict[str, float]], None],
        feed: Feed | None = None,
    ):
        """Restores the newest whole checkpoint; files do not change until `begin`.

        Args:
          algorithm: The algorithm to train.
          config: One config, or a stacked one with a setting for each seed.
          dataset: The data to train on.
          keys: Keys of the seeds, shape (S,).
          names: Names of the seeds, for messages.
          directory: Where rows go.
          checkpoints: Where states go.
          log: Called with every row.
          report: Called with the step and numbers to show.
          feed: Feed of batches, if the dataset is not on the device.
        """
        self._algorithm, self._config, self._dataset, self._keys = algorithm, config, dataset, keys
        self._names = names
        self._rows: Dataset | Feed | None = feed  # the data on the devices of the seeds
        self._states: Dataset | None = None  # a sample for the diagnostics
        self._directory, self._checkpoints = directory, checkpoints
        self._log, self._report = log, report
        self.step, self.diverged = 0, [None] * len(keys)
        self.rollouts: Rollouts | None = None
        self._evaluating: tuple[int, Evaluation] | None = None  # its step, and what is running
        parts = ("training", "diagnostics", "evaluation", "saving")
        self.seconds = dict.fromkeys(parts, 0.0)

        init = partial(learner.init, algorithm, config, dataset.spec, keys)
        found = checkpoints.restore(
            jax.eval_shape(init), accept=lambda facts: directory.check(facts["rows"])
        )
        self._marks: dict[str, list] = {}
        if found is None and directory.is_done():
            raise InputError(
                f"the run in {directory.path} is finished but has no checkpoints to resume from; "
                "give another run_dir"
            )
        if found is None:
            if num_rows := directory.metrics.count():
                logging.warning(
                    "%s has no checkpoint yet: the run starts again, and %d rows are removed",
                    directory.path,
                    num_rows,
                )
            self.state = init()
        else:
            self.step, self.state, facts = found
            self._marks, self.diverged = facts["rows"], facts["diverged"]

    def begin(self, evaluates: bool) -> None:
        """Writes the settings, and cuts the rows to those of the checkpoint. An evaluation after it
        stays, unless this session evaluates that step again."""
        self._directory.adopt()
        self._checkpoints.forget_damaged()
        self._directory.cut(self._marks, None if evaluates else self.step)
        row = self._directory.metrics.last() or {}
        self.metrics = {k: np.array(v, np.float64) for k, v in row.items() if isinstance(v, list)}
        beside = ThreadPoolExecutor(1)  # the first chunk is compiled meanwhile
        self._behavior = beside.submit(diagnostics.clone_behavior, self._dataset)
        self.saved_step, self._saved_at = self.step, time.monotonic()

    @property
    def is_lost(self) -> np.ndarray:
        """By seed, whether it has diverged."""
        return np.array([why is not None for why in self.diverged])

    def learn(
        self,
        num_steps: int,
        *,
        seed_batch: int | None,
        matmul_precision: str,
        divergence_limit: float,
    ) -> None:
        """Trains a chunk of updates; seeds that diverge in it are frozen at its start."""
        was_lost = self.is_lost
        with self._timed("training"):
            clock = time.perf_counter()
            before = jax.tree.map(jnp.copy, self.state)
            if self._rows is None:
                self._rows = learner.replicated(self._dataset, self._keys, seed_batch)
            if self._states is None:
                states = diagnostics.states(self._dataset)
                self._states = learner.replicated(states, self._keys, seed_batch).bare()
            self.state, metrics = learner.learn(
                self._algorithm,
                self._config,
                self._rows,
                state=self.state,
                key=self._keys,
                num_steps=num_steps,
                seed_batch=seed_batch,
                matmul_precision=matmul_precision,
            )
            metrics = {name: np.array(values, np.float64) for name, values in metrics.items()}
            speed = num_steps / (time.perf_counter() - clock)
        self.step += num_steps
        for i, what in enumerate(lost_seeds.find(metrics, self.state, divergence_limit)):
            if what is not None and not was_lost[i]:
                self.diverged[i] = f"{what} at step {self.step}"
                logging.warning("%s diverged: its %s", self._names[i], self.diverged[i])
        if self.is_lost.all():
            self.rollouts = None  # the last ones are of policies that have diverged
        if self.is_lost.any():
            self.state = lost_seeds.freeze(jnp.array(self.is_lost), self.state, before)
        with self._timed("diagnostics"):
            found = diagnostics.diagnose(
                self._algorithm,
                self._config,
                self._states,
                state=self.state,
                behavior=self._behavior.result(),
            )
            found = {name: np.array(values, np.float64) for name, values in found.items()}
        # The metric that shows a divergence appears once, in the row of that chunk.
        self.metrics = {k: np.where(was_lost, np.nan, v) for k, v in metrics.items()}
        self.metrics |= {k: np.where(self.is_lost, np.nan, v) for k, v in found.items()}
        row = {"step": self.step, "steps_per_second": speed}
        row |= {name: values.tolist() for name, values in self.metrics.items()}
        if self._evaluating is not None and self._evaluating[1].is_done():
            self.end_evaluation()
        self._add(self._directory.metrics, row, "loss")

    def evaluate(self, evaluation: "Evaluation") -> None:
        """Starts to roll out the policies of the seeds that have not diverged; training continues
        beside it."""
        self.end_evaluation()
        state = jax.tree.map(jnp.copy, self.state)  # which training donates
        evaluation.start(self._config, state, self.is_lost)
        self._evaluating = self.step, evaluation

    def end_evaluation(self) -> None:
        """Waits for the evaluation that was started, if there is one, and adds its row.

        Raises:
          Halted: if the run is asked to stop, and again at every call, since the row is missing.
        """
        if self._evaluating is None:
            return
        step, evaluation = self._evaluating
        try:
            with self._timed("evaluation"):  # training beside it cannot be saved without it
                rollouts = evaluation.result(PATIENCE if self.step > step else 0.0)
            row = {"step": step} | summarize(rollouts, self._dataset.spec)
        except Failed as error:
            rollouts = None
            row = {"step": step, "failed": str(error)}
            logging.warning("the evaluation at step %d failed: %s", step, error)
        self.rollouts = None if self.is_lost.all() else rollouts
        self._evaluating = None
        self._add(self._directory.evaluations, row, "score", "return")

    def seconds_since_saved(self) -> float:
        return time.monotonic() - self._saved_at

    def save(self) -> None:
        """Starts writing a checkpoint, unless this step has one. All rows up to this step belong to
        it, so this waits for a running evaluation.

        Raises:
          OSError: if this or an earlier one cannot be written.
          Halted: as `end_evaluation`.
        """
        self.end_evaluation()
        if self.saved_step == self.step:
            return
        with self._timed("saving"):
            facts = {"rows": self._directory.marks(), "diverged": self.diverged}
            self._checkpoints.save(self.step, self.state, facts)
        self.saved_step, self._saved_at = self.step, time.monotonic()

    def _add(self, rows: RowFile, row: dict[str, Any], *shown: str) -> None:
        """Writes and logs a row, and reports its means over the seeds that have not diverged, for
        names whose last part is in `shown`."""
        row = rows.append(row)
        self._log(row)
        means = {
            name: float(np.nanmean(np.where(self.is_lost, np.nan, np.array(values, np.float64))))
            for name, values in row.items()
            if name.rpartition("/")[2] in shown and not self.is_lost.all()
        }
        if means:  # none are left if all seeds are lost
            self._report(row["step"], means)

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        clock = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - clock


class Evaluation:
    """An evaluator with a watchdog, made again after a failure.

    Attributes:
      seconds: Total time of its evaluations.
    """

    def __init__(self, make: Callable[[], Evaluator], timeout: float, stop: Callable[[], bool]):
        self._make, self._timeout = make, timeout
        self._stop, self._is_halted = stop, threading.Event()
        self._evaluator: Evaluator | None = make()
        self._thread = ThreadPoolExecutor(1)
        self.seconds = 0.0

    def start(self, config: Any, state: Any, is_lost: np.ndarray) -> None:
        """Starts an evaluation in a thread."""
        self._future = self._thread.submit(self, config, state, is_lost)

    def is_done(self) -> bool:
        return self._future.done()

    def result(self, patience: float) -> Rollouts:
        """The result of what was started. Asked to stop, it waits for at most `patience` seconds.

        Raises:
          Failed: as `watched`.
          Halted: if the run is asked to stop, and again at every call.
        """
        patient_until = math.inf
        while not wait([self._future], POLL_SECONDS).done:
            if self._stop():
                patient_until = min(patient_until, time.monotonic() + patience)
            if time.monotonic() >= patient_until:
                self._is_halted.set()
        return self._future.result()

    def __call__(self, config: Any, state: Any, is_lost: np.ndarray) -> Rollouts:
        """Raises `Failed` and `Halted` as `watched` does."""

        def work(tick: Callable[[], None]) -> tuple[Evaluator, Rollouts]:
            evaluator = self._evaluator or self._make()
            try:
                return evaluator, evaluator(config, state, is_lost=is_lost, tick=tick)
            except Exception:
                with contextlib.suppress(Exception):
                    evaluator.close()
                raise

        clock = time.perf_counter()
        try:
            self._evaluator, rollouts = watched(work, self._timeout, self._is_halted.is_set)
        except (Failed, Halted):
            self._evaluator = None  # its environments may be broken or in use
            raise
        finally:
            self.seconds += time.perf_counter() - clock
        return rollouts

    def close(self) -> None:
        """Halts what was started, and closes the environments."""
        self._is_halted.set()
        self._thread.shutdown()
        if self._evaluator is not None:
            with contextlib.suppress(Failed):  # the run is over
                watched(lambda tick: self._evaluator.close(), self._timeout)
