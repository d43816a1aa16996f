"""Chooses among the policies of trained runs, offline by a score or online by a bandit."""

import dataclasses
import itertools
import os
import time
from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offrl_jax import data
from offrl_jax.algorithms import ALGORITHMS, known
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.api.policy_scores import SCORES, Settings, means, score, true_values
from offrl_jax.api.run import Run
from offrl_jax.data import Data
from offrl_jax.evaluation import selection
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.files import write_json
from offrl_jax.networks.values import Networks, known_networks, networks_of
from offrl_jax.reports import selection as report
from offrl_jax.runs import load
from offrl_jax.runs.load import Trained
from offrl_jax.runs.policy import Policy
from offrl_jax.types import InputError, did_you_mean

BY = (*SCORES, "online")
ASKED = {  # score: what it needs of an algorithm
    "initial_value": "value",
    "soft_opc": "q_values",
    "td_error": "q_values",
}
TASK = "env_id", "env_kwargs", "max_episode_steps"  # what true returns depend on
FIRST_START = 1_000_000  # seed of online episodes; true returns use others


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Scored policies and the chosen one; prints as a table and a verdict.

    Attributes:
      results: What `selection.json` holds: `choice`, `policies` with their scores and true returns,
        how well each score predicted these, and the estimated result of choosing online.
      policies: Each policy: the policies of a run at a step, and an index into them.
    """

    results: dict[str, Any]
    policies: list[tuple[Trained, int]]

    def __repr__(self) -> str:
        return report.text(self.results)

    @property
    def choice(self) -> dict[str, Any]:
        """Run, step and seed of the choice, with its scores."""
        return self.results["choice"]

    def policy(self) -> Policy:
        """The chosen policy: raw observations to actions in the environment's bounds."""
        index = next(i for i, row in enumerate(self.results["policies"]) if row is self.choice)
        group, i = self.policies[index]
        state = jax.tree.map(lambda x: x[i], group.state)
        return Policy(group.algorithm, group.config, state, group.spec, group.preprocessing)


def select(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    by: str = "fqe",
    scores: Sequence[str] = SCORES,
    num_online_episodes: int | None = None,
    checkpoints: str = "last",
    dataset: Data | str | os.PathLike | None = None,
    observation_keys: Sequence[str] = (),
    clip_actions: bool = False,
    trust_dataset_env: bool = False,
    algorithm: Algorithm | None = None,
    networks: Networks | None = None,
    output: str | Path | None = None,
    **settings: Any,
) -> Selection:
    """Scores the policies of runs, possibly of several algorithms, and chooses the best.

    The highest score is the best. `fqe`: fitted Q evaluation, mean Q(s₀, π(s₀)) over the data's
    initial states. `initial_value`: the same with the run's own critic. `soft_opc`: mean Q of that
    critic over transitions of successful episodes, minus its mean over all transitions. `td_error`:
    its mean squared TD error, negated. The first two are discounted returns in the environment's
    rewards, whatever reward transform a run used. `online` is a bandit over the policies in the
    environment.

    Args:
      runs: Runs or their directories, all of the same data.
      by: The score to choose by: one of `SCORES`, or "online".
      scores: Further scores to compute.
      num_online_episodes: Environment episodes for "online" in all, at least one per policy.
      checkpoints: "last" or "all": the checkpoints to score of each run in a directory.
      dataset: The raw dataset that the runs learnt from, or its name if it has moved.
      observation_keys: As for `load_dataset`.
      clip_actions: As for `load_dataset`.
      trust_dataset_env: As for `load_dataset`.
      algorithm: Your own, for run directories that name it; others are of `ALGORITHMS`.
      networks: As for `load_run`.
      output: A folder for `selection.json` and `scores.png`; None writes nothing.
      **settings: Fields of `Settings`.

    Raises:
      InputError: if no run has such a score, the runs learnt from different data, or the results
        cannot be written.
    """
    if by not in BY:
        raise InputError(f"there is no by={by!r}{did_you_mean(by, BY)} (there are {', '.join(BY)})")
    if unknown := [name for name in scores if name not in SCORES]:
        raise InputError(f"there is no score {unknown[0]!r}; there are {', '.join(SCORES)}")
    if checkpoints not in ("last", "all"):
        raise InputError(f"checkpoints={checkpoints!r} is neither last nor all; give one of these")
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in settings.keys() - set(known):
        raise InputError(f"select has no setting {name!r}{did_you_mean(name, known)}")
    settings = Settings(**settings)
    names = [name for name in SCORES if name in scores or name == by]
    groups = _policies(runs, algorithm, known_networks(networks), checkpoints == "all")
    policies = [(group, i) for group in groups for i in range(len(group.seeds))]
    if (num_online_episodes is None) == (by == "online"):
        raise InputError("by=online needs num_online_episodes=…, and no other choice takes it")
    if by == "online" and num_online_episodes < len(policies):
        raise InputError(
            f"num_online_episodes={num_online_episodes} is less than one for each of "
            f"{len(policies)} policies; give more episodes or fewer policies"
        )
    if (asked := ASKED.get(by)) and all(getattr(g.algorithm, asked) is None for g in groups):
        kinds = ", ".join(sorted({group.algorithm.name for group in groups}))
        raise InputError(
            f"by={by} needs {asked} from the runs' own critics, and {kinds} has none; choose by "
            "fqe or online"
        )
    reading = {
        "observation_keys": tuple(observation_keys),
        "clip_actions": clip_actions,
        "trust_dataset_env": trust_dataset_env,
    }
    dataset = _dataset(groups, dataset, **reading)
    folder = None if output is None else _made(Path(output))

    clock = time.perf_counter()
    found, fitted = score(names, groups, dataset, settings)
    seconds = time.perf_counter() - clock
    returns = np.concatenate([means(g.returns, g) for g in groups])
    rows = [
        {
            "run": str(group.run),
            "algorithm": group.algorithm.name,
            "step": group.step,
            "seed": group.seeds[i],
            "scores": {name: float(values[p]) for name, values in found.items()},
            "true_return": float(returns[p]),
        }
        for p, (group, i) in enumerate(policies)
    ]
    for name, values in fitted.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = float(value)
    if by == "online":
        bandit = _online(policies, dataset, num_online_episodes, settings.seed)
        chosen, seen = int(bandit.choice[-1, 0]), num_online_episodes
        for row, count, mean in zip(rows, bandit.counts[0], bandit.means[0], strict=True):
            row["online"] = {"episodes": int(count), "mean_return": float(mean)}
    else:
        chosen, seen = _best(by, found[by]), 0
    results = {
        "by": by,
        "choice": rows[chosen],
        "environment_episodes_seen": seen,
        "dataset": dataset.spec.to_json(),
        "settings": dataclasses.asdict(settings),
        "seconds_of_scores": seconds,
        "judged": report.judged(found, returns, true_values(found, groups, settings.fqe_discount)),
        "online_instead": _online_instead(groups, settings.seed),
        "policies": rows,
    }
    if folder is not None:
        labels = [f"{group.run.name} ({group.algorithm.name})" for group, _ in policies]
        _write(folder, results, found, returns, labels, chosen)
    return Selection(results, policies)


def _policies(
    runs: Run | str | Path | Sequence[Run | str | Path],
    algorithm: Algorithm | None,
    networks: Networks,
    all_checkpoints: bool,
) -> list[Trained]:
    runs = [runs] if isinstance(runs, Run | str | Path) else list(dict.fromkeys(runs))
    if not runs:
        raise InputError("no run is given; give one or more runs")
    groups = []
    for run in runs:
        if isinstance(run, Run) and run.path is None:
            groups.append(run.trained())
        elif isinstance(run, Run):
            own = known(run.algorithm), networks_of(run.config)
            groups += load.load(run.path, *own, all_checkpoints=all_checkpoints)
        else:
            either = ALGORITHMS if algorithm is None else ChainMap(known(algorithm), ALGORITHMS)
            groups += load.load(run, either, networks, all_checkpoints=all_checkpoints)
    return groups


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {folder} cannot be made ({error}); give another") from error
    return folder


def _write(
    folder: Path,
    results: dict[str, Any],
    scores: dict[str, np.ndarray],
    returns: np.ndarray,
    labels: Sequence[str],
    chosen: int,
) -> None:
    """Writes `selection.json`, and `scores.png` if any returns are known."""
    try:
        write_json(folder / "selection.json", results)
        if scores and np.isfinite(returns).any():
            title = f"{Path(results['dataset']['name']).name}, by {results['by']}"
            report.plot(folder / "scores.png", scores, returns, labels, chosen, title)
    except OSError as error:
        message = f"the selection cannot be written ({error}); give another output"
        raise InputError(message) from error


def _dataset(
    groups: list[Trained], source: Data | str | os.PathLike | None, **options: Any
) -> Data:
    """The raw dataset that all runs learnt from: `source`, or the dataset that they name.

    Raises:
      InputError: if the runs have different data or environments, or the dataset has changed since.
    """
    first = groups[0]
    for group in groups:
        if group.spec.fingerprint != first.spec.fingerprint:
            raise InputError(
                f"{first.run} and {group.run} learnt from different data "
                f"({first.spec.name} and {group.spec.name}); select among runs on one dataset"
            )
        one, other = first.spec.to_json(), group.spec.to_json()
        for field in TASK:
            if one[field] != other[field]:
                raise InputError(
                    f"{first.run} and {group.run} are of different environments ({field} "
                    f"{one[field]} and {other[field]}); select among runs in one environment"
                )
    dataset = first.spec.name if source is None else source
    if not isinstance(dataset, Data):
        dataset = data.load_dataset(dataset, **options)
    if dataset.spec.fingerprint != first.spec.fingerprint:
        raise InputError(
            f"dataset {dataset.spec.name} has the fingerprint {dataset.spec.fingerprint[:12]} but "
            f"{first.run} learnt from {first.spec.fingerprint[:12]}; give the data of the runs as "
            "dataset=…"
        )
    if not dataset.preprocessing.is_identity:
        raise InputError(
            f"{dataset.spec.name} is preprocessed already; give it as load_dataset returns it"
        )
    return dataset


def _best(by: str, score: np.ndarray) -> int:
    if np.isnan(score).all():
        raise InputError(f"no policy has a score by {by}; choose by another")
    return int(np.nanargmax(score))


def _online(
    policies: list[tuple[Trained, int]], dataset: Data, num_online_episodes: int, seed: int
) -> selection.Bandit:
    """UCB over the policies; every episode has a seed of its own."""
    evaluators: dict[int, Evaluator] = {}
    starts = itertools.count(FIRST_START + seed)

    def pull(chosen: np.ndarray) -> np.ndarray:
        group, i = policies[int(chosen[0])]
        if id(group) not in evaluators:
            spec = dataclasses.replace(group.spec, env_entry_point=dataset.spec.env_entry_point)
            prepared = dataclasses.replace(dataset, spec=spec, preprocessing=group.preprocessing)
            evaluators[id(group)] = Evaluator(group.algorithm, prepared, (), 1)
        state = jax.tree.map(lambda x: x[i], group.state)
        return evaluators[id(group)](group.config, state, later=next(starts)).episode_return

    try:
        return selection.ucb(pull, len(policies), num_online_episodes, seed=seed)
    finally:
        for evaluator in evaluators.values():
            evaluator.close()


def _online_instead(groups: list[Trained], seed: int) -> dict[str, Any]:
    """Estimated result of choosing online, from the episodes that the runs recorded; empty unless
    every policy has some. Policies are drawn without replacement, since none is tried twice."""
    if any(group.returns is None or np.isnan(group.returns).any() for group in groups):
        return {}
    num = min(group.returns.shape[1] for group in groups)
    returns = np.concatenate([group.returns[:, :num] for group in groups])
    if (n := len(returns)) < 2:
        return {}
    curve = selection.bandit_curve(returns, 10 * n, seed=seed)
    ucb = [
        {"episodes": t} | {name: float(values[t - 1]) for name, values in curve.items()}
        for t in (n, 2 * n, 5 * n, 10 * n)
    ]
    best = selection.expected_online_performance(returns.mean(1), replace=False)
    tried = [
        {"policies": k, "episodes": k * num, "expected_return": float(best[k - 1])}
        for k in sorted({1, 2, 4, 8, 16, n})
        if k <= n
    ]
    return {"ucb": ucb, "expected_online_performance": tried}
