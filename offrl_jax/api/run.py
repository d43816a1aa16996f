"""Training in one call. The result is a `Run`, in memory or in a directory."""

import contextlib
import dataclasses
import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offrl_jax.algorithms import known
from offrl_jax.algorithms.base import Algorithm, phases_of
from offrl_jax.api import prepare
from offrl_jax.api.evaluation import Evaluation, roll_out
from offrl_jax.api.prepare import Environment
from offrl_jax.data import Data
from offrl_jax.data.dataset import Preprocessing
from offrl_jax.networks.values import Networks, known_networks, networks_of
from offrl_jax.presets.preset import Preset
from offrl_jax.reports import recorded
from offrl_jax.runs import load
from offrl_jax.runs import train as training
from offrl_jax.runs.directory import DONE, FAILED, check_run_dir
from offrl_jax.runs.in_memory import InMemory
from offrl_jax.runs.load import Checkpoint, Description, Trained
from offrl_jax.runs.outcomes import AlreadyFinished
from offrl_jax.runs.policy import Policy
from offrl_jax.runs.progress import Progress
from offrl_jax.runs.save import save_run
from offrl_jax.types import InputError, Spec

GIVEN = {"algorithm", "config", "dataset", "run_dir"}  # parameters of `train` itself
INTERNAL = {"make_env", "record", "report", "setting_dirs"}  # not set by users
SETTINGS = set(inspect.signature(training.train).parameters) - GIVEN - INTERNAL


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
    """S seeds of an algorithm, trained on a dataset.

    Attributes:
      description: Algorithm, config, data and seeds, as the run's settings say.
      checkpoint: The last step, with the states.
      environment: Versions, devices, a summary of the data: `environment.json`.
      rows: Rows of `metrics.jsonl`, one per chunk of updates.
      evaluation_rows: Rows of `evaluations.jsonl`, one per evaluation.
      facts: `step`, `diverged` and `seconds` at the end of the run; empty if it has not ended.
      failed: Why the run counts as failed, or None.
      path: The run directory; None in memory.
      dataset: The preprocessed training data; None for a loaded run.
      session: Result of training in this process; None if the run was not trained here.
    """

    description: Description
    checkpoint: Checkpoint
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    evaluation_rows: list[dict[str, Any]]
    facts: dict[str, Any]
    failed: str | None = None
    path: Path | None = None
    dataset: Data | None = None
    session: training.Result | None = None

    @property
    def algorithm(self) -> Algorithm:
        return self.description.algorithm

    @property
    def config(self) -> Any:
        return self.description.config

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the run's results: `config.json`."""
        return self.description.settings

    @property
    def spec(self) -> Spec:
        """Sizes, bounds and environment of the data."""
        return self.description.spec if self.dataset is None else self.dataset.spec

    @property
    def preprocessing(self) -> Preprocessing:
        return self.description.preprocessing

    @property
    def discount(self) -> float:
        return self.description.discount

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.description.seeds

    @property
    def state(self) -> Any:
        """The last states, with leading axis S; for a diverged seed, its last finite state."""
        return self.checkpoint.state

    @property
    def step(self) -> int:
        """Updates per seed so far."""
        return self.checkpoint.step

    @property
    def diverged(self) -> list[str | None]:
        """For each seed, how and when it diverged, or None."""
        return self.checkpoint.diverged

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Metrics by name, shape (chunks, S), NaN where a seed has none; `step` and
        `steps_per_second` have shape (chunks,)."""
        return _columns(self.rows)

    @property
    def evaluations(self) -> dict[str, np.ndarray]:
        """Results of evaluations by name, shape (evaluations, S), NaN where a seed has none; `step`
        has shape (evaluations,), `episode_returns` (evaluations, S, episodes)."""
        return _columns(self.evaluation_rows)

    def __repr__(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        text = f"{self.algorithm.name} on {self.spec.name}: {seeds}, {self.step:,} steps"
        for name in ("score", "return"):
            is_last = self.evaluations.get("step", np.zeros(0)) == self.step
            if name in self.evaluations and is_last.any():
                values = self.evaluations[name][is_last][-1]
                if not np.isnan(values).all():
                    text += f", {name} {np.nanmean(values):.1f}"
                break
        if any(self.diverged):
            text += f", {sum(map(bool, self.diverged))} diverged"
        return f"Run({text}, {self.path or 'in memory'})"

    def evaluate(self, *, num_episodes: int = 10, environment: Environment = None) -> Evaluation:
        """Rolls out the policies; see `evaluate`."""
        return evaluate(self, num_episodes=num_episodes, environment=environment)

    def policy(self, seed_index: int = 0) -> Policy:
        """The policy of a seed: raw observations to actions in the environment's bounds.

        Raises:
          InputError: if there is no such seed, or it diverged.
        """
        if not 0 <= seed_index < len(self.seeds):
            raise InputError(
                f"seed_index={seed_index} but the run has seeds 0 to {len(self.seeds) - 1}"
            )
        if why := self.diverged[seed_index]:
            raise InputError(f"seed_index={seed_index} diverged ({why}); give another")
        state = jax.tree.map(lambda x: x[seed_index], self.state)
        return Policy(self.algorithm, self.config, state, self.spec, self.preprocessing)

    def trained(self) -> Trained:
        """The run's policies and their returns, in the form that selection takes."""
        rows = [row for row in self.evaluation_rows if row["step"] == self.step]
        returns = discounted = None
        if rows and "failed" not in rows[-1]:
            returns = np.array(rows[-1]["episode_returns"], np.float64)
            discounted = np.array(rows[-1]["discounted_return"], np.float64)
        name = self.path or Path(f"{self.algorithm.name} in memory")
        return load.trained(name, self.description, self.checkpoint, returns, discounted)

    def recorded(self) -> recorded.RecordedRun:
        """The run's records, in the form that reports take."""
        ending = "unfinished" if not self.facts else "done" if self.failed is None else "failed"
        facts = {"step": self.step, "diverged": self.diverged, "reason": self.failed} | self.facts
        name = self.path or Path(f"{self.algorithm.name} in memory")
        rows = self.evaluation_rows, self.rows
        return recorded.from_rows(name, self.settings, self.environment, ending, facts, *rows, [])

    def save(self, path: str | Path) -> Path:
        """Writes a run directory that `load_run`, reports and training accept like any other.

        Args:
          path: New or empty directory.

        Raises:
          InputError: if the directory is not empty or cannot be written.
        """
        path = check_run_dir(path).absolute()
        if path.exists():
            if any(path.iterdir()):
                raise InputError(f"{path} holds a run already; give another path")
            path.rmdir()
        try:
            save_run(
                path,
                settings=self.settings,
                environment=self.environment,
                metrics=self.rows,
                evaluations=self.evaluation_rows,
                algorithm=self.algorithm,
                config=self.config,
                state=self.state,
                spec=self.spec,
                preprocessing=self.preprocessing,
                facts={"step": self.step, "diverged": self.diverged, **self.facts},
                failed=self.failed,
                ended=bool(self.facts),
            )
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error}); give another path") from error
        return path


def train(
    algorithm: str | Algorithm,
    data: Data | str | os.PathLike,
    *,
    config: Any = None,
    preset: str | Preset = "auto",
    recipe: str | Sequence[str] = (),
    environment: Environment = None,
    run_dir: str | Path | None = None,
    best_fraction: float = 1.0,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Trains S seeds of an algorithm in one program.

    The preset determines the preparation of the data, the number of updates and the config;
    arguments override it. With a `run_dir`, the same call resumes an interrupted run and returns a
    finished one unchanged.

    Args:
      algorithm: One of `ALGORITHMS`, by name, or your own.
      data: A dataset, or a name, path or other argument of `load_dataset`.
      config: A config of the algorithm, or a dictionary of fields to change in the preset's config.
      preset: "auto", by the data's environment; "none"; a domain's name; or a `Preset`.
      recipe: Named settings on top of the preset, one or several.
      environment: Evaluation environment in place of the data's: a registered id, or a function
        that makes one whose episodes end.
      run_dir: A new directory or an earlier run's; None trains in memory and writes nothing.
      best_fraction: Share of the episodes to learn from, those of the highest return, in (0, 1].
      progress: Whether to show progress.
      **settings: Arguments of `runs.train.train`, such as `num_steps`, `num_seeds=1`, `seed=0`,
        `num_evaluations=5`, `num_evaluation_episodes=10`; and fields of `Preset`, such as
        `reward_scale`.

    Raises:
      InputError: if a name is unknown (the nearest one is suggested) or the settings cannot be
        trained.
      Stopped: if `stop` returned True.
      RunFailed: if rows or checkpoints cannot be written.
    """
    algorithm = prepare.find_algorithm(algorithm)
    changes = prepare.take_preset_fields("train", settings, SETTINGS)
    dataset = prepare.find_dataset(data, environment)
    chosen = prepare.choose_preset(algorithm, dataset, preset, recipe, changes)
    config = prepare.make_config(algorithm, chosen, config)
    networks = networks_of(config)
    dataset = prepare.learnable(dataset, chosen, best_fraction)
    with contextlib.ExitStack() as stack:
        if progress:
            earlier = sum(phase.num_steps or 0 for phase in phases_of(algorithm, config))
            settings["report"] = Progress(earlier + chosen.num_steps)
            stack.callback(settings["report"].close)
        try:
            result = training.train(
                algorithm,
                config,
                dataset,
                run_dir=run_dir,
                num_steps=chosen.num_steps,
                make_env=prepare.maker(environment),
                record=prepare.record(chosen, best_fraction),
                **settings,
            )
        except AlreadyFinished:
            run = load_run(run_dir, algorithm=algorithm, networks=networks)
            return dataclasses.replace(run, dataset=dataset)
    if result.in_memory is None:
        run = _stored(result.run_dir, load.read(result.run_dir, known(algorithm), networks), result)
    else:
        run = in_memory(result.in_memory, result.state, algorithm, networks)
    return dataclasses.replace(run, dataset=dataset, session=result)


def load_run(
    path: str | Path, *, algorithm: Algorithm | None = None, networks: Networks | None = None
) -> Run:
    """Loads a run, finished or interrupted, at its newest whole checkpoint.

    Args:
      path: The run's directory.
      algorithm: The trained algorithm, if it is not one of `ALGORITHMS`.
      networks: Your own network classes in the run, by name: `{"Residual": Residual}`.

    Raises:
      InputError: if there is no run, it has no whole checkpoint, `networks` lacks a class of it, or
        another version wrote it.
    """
    description = load.read(path, known(algorithm), known_networks(networks))
    folder = Path(path).expanduser().absolute()
    with contextlib.closing(load.checkpoints(path, description)) as found:
        checkpoint = next(found, None)
    if checkpoint is None:
        raise InputError(f"{path} has no whole checkpoint; train it again")
    return _stored(folder, description, checkpoint)


def evaluate(
    run: Run | str | Path,
    *,
    num_episodes: int = 10,
    environment: Environment = None,
    algorithm: Algorithm | None = None,
    networks: Networks | None = None,
) -> Evaluation:
    """Rolls out the policies of a run, which act with their modes. Episode j starts from the same
    environment seed for all of them.

    Args:
      run: A run, or its directory.
      num_episodes: Episodes per seed, at least one.
      environment: Environment in place of the data's: a registered id, or a function that makes
        one.
      algorithm: As for `load_run`, of a run that is given as a directory.
      networks: As for `load_run`.

    Raises:
      InputError: if no environment is known or it does not fit the data, or all seeds diverged.
    """
    if not isinstance(run, Run):
        run = load_run(run, algorithm=algorithm, networks=networks)
    return roll_out(run, num_episodes, environment)


def _stored(folder: Path, description: Description, last: Checkpoint | training.Result) -> Run:
    """A run in a directory, whose last states are known."""
    done, failed = _object(folder / DONE), _object(folder / FAILED)
    checkpoint = Checkpoint(last.step, last.state, last.diverged)
    return Run(
        description,
        checkpoint,
        _object(folder / "environment.json"),
        _rows(folder / "metrics.jsonl", checkpoint.step),
        _rows(folder / "evaluations.jsonl", checkpoint.step),
        facts=done or failed,
        failed=failed.get("reason"),
        path=folder,
    )


def in_memory(kept: InMemory, state: Any, algorithm: Algorithm, networks: Networks) -> Run:
    """A run that has ended, in memory.

    Args:
      kept: Everything except the states.
      state: The last states, with leading axis S.
      algorithm: The trained algorithm.
      networks: Network classes by name.
    """
    return Run(
        load.describe(kept.settings, algorithm, networks, "the run"),
        Checkpoint(kept.facts["step"], state, kept.facts["diverged"]),
        kept.environment,
        kept.metrics.rows,
        kept.evaluations.rows,
        facts=kept.facts,
        failed=kept.failed,
    )


def _object(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if the file is absent or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


def _rows(path: Path, step: int) -> list[dict[str, Any]]:
    """The complete rows of a file up to that step."""
    rows = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, LookupError, TypeError):
                row = json.loads(line)
                if row["step"] <= step:
                    rows.append(row)
    return rows


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as arrays by name, NaN for null and where a row lacks the name."""
    names = dict.fromkeys(name for row in rows for name in row if name != "failed")
    found = {}
    for name in names:
        values = [np.array(row[name], np.float64) if name in row else None for row in rows]
        blank = np.full(next(x for x in values if x is not None).shape, np.nan)
        found[name] = np.stack([blank if x is None else x for x in values])
    if "step" in found:
        found["step"] = found["step"].astype(np.int64)
    return found
