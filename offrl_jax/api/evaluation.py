"""Rolls out the policies of a run in an environment."""

import contextlib
import dataclasses
from typing import Any

import numpy as np

from offrl_jax.api.prepare import Environment, in_environment, maker
from offrl_jax.data.dataset import Preprocessing
from offrl_jax.evaluation.rollouts import Evaluator, Rollouts
from offrl_jax.reports.table import final_table
from offrl_jax.types import InputError, Spec


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Episodes of every seed of a run; prints as a table of scores.

    Attributes:
      rollouts: Arrays of shape (S, episodes), NaN for diverged seeds.
      spec: Environment and reference scores.
      seeds: The S seeds.
      data_return: Mean return of the data's episodes, if known.
    """

    rollouts: Rollouts
    spec: Spec
    seeds: tuple[int, ...]
    data_return: float | None

    def __repr__(self) -> str:
        return final_table(self.rollouts, self.spec, self.data_return, self.seeds[0])


@dataclasses.dataclass(frozen=True)
class _Judged:
    """The part of a dataset that an evaluator reads."""

    spec: Spec
    preprocessing: Preprocessing
    discount: float


def roll_out(run: Any, num_episodes: int, environment: Environment) -> Evaluation:
    """Rolls out a `Run`; arguments and errors are those of `evaluate`."""
    if num_episodes < 1:
        raise InputError(f"num_episodes={num_episodes}; give at least one")
    spec, make_env = run.spec, maker(environment)
    if isinstance(environment, str):
        spec = in_environment(spec, environment)
    if make_env is None and spec.env_id is None:
        raise InputError(
            f"dataset {spec.name} names no environment to evaluate in; give one as environment=…"
        )
    is_lost = np.array([why is not None for why in run.diverged])
    if is_lost.all():
        raise InputError(f"all {len(is_lost)} seeds of {run} diverged; train again to evaluate")
    judged = _Judged(spec, run.preprocessing, run.discount)
    runs = (len(run.seeds),)
    evaluator = Evaluator(run.algorithm, judged, runs, num_episodes, make_env=make_env)
    with contextlib.closing(evaluator):
        rollouts = evaluator(run.config, run.state, is_lost=is_lost)
    data_return = (run.environment.get("dataset") or {}).get("mean_return")
    return Evaluation(rollouts, spec, run.seeds, data_return)
