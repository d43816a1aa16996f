"""Scores for choosing among the policies of trained runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax import data
from offrl_jax.data import Data, with_discount
from offrl_jax.evaluation import critics, fqe
from offrl_jax.reports import selection as report
from offrl_jax.runs.load import Trained
from offrl_jax.runs.messages import say
from offrl_jax.types import InputError, Transition

SCORES = tuple(report.SHOWN)
DEFAULTS = fqe.FQEConfig()
NUM_CRITIC_ROWS = 10_000  # transitions at which the runs' own critics are evaluated
CLIPPED = 0.2  # share of clipped targets above which a warning is given


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that the scores depend on.

    Attributes:
      seed: Seed of FQE's parameters and batches, and of the starts of online episodes.
      fqe_num_steps: Updates of FQE.
      fqe_discount: γ of FQE, in [0, 0.9999].
      fqe_num_transitions: Maximum number of transitions for FQE; larger data are sampled.
      success_quantile: Quantile for soft OPC, in [0, 1]: an episode succeeds if its return reaches
        this quantile and is not the lowest.
    """

    seed: int = 0
    fqe_num_steps: int = DEFAULTS.num_steps
    fqe_discount: float = DEFAULTS.discount
    fqe_num_transitions: int = 200_000
    success_quantile: float = 0.9

    def __post_init__(self):
        bounds = {
            "seed": (0, np.inf),
            "fqe_num_steps": (1, np.inf),
            "fqe_discount": (0.0, 0.9999),
            "fqe_num_transitions": (1, np.inf),
            "success_quantile": (0.0, 1.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name}={value} is outside [{low:g}, {high:g}]; give another")


def score(
    names: list[str], groups: list[Trained], dataset: Data, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scores by name, (P,), NaN where a policy has none; and FQE's further results by name."""
    rng = np.random.default_rng(settings.seed)
    num_rows = min(settings.fqe_num_transitions, len(dataset))
    rows = rng.choice(len(dataset), num_rows, replace=False)
    raw = jax.tree.map(np.asarray, dataset.transitions)
    start = np.asarray(fqe.initial_observations(dataset))
    scores, fitted = {}, {}
    if "fqe" in names:
        say(f"fitted Q evaluation of {sum(len(g.seeds) for g in groups)} policies")
        estimate = _fitted(groups, dataset, rows, raw.next_observation[rows], start, settings)
        scores["fqe"] = np.asarray(estimate.score)
        fitted = {f"fqe_{k}": np.asarray(v) for k, v in estimate._asdict().items() if k != "score"}
        if (num := int((fitted["fqe_clipped"] > CLIPPED).sum())) > 0:
            say(
                f"warning: FQE's targets were clipped for {num} policies; their scores are not fits"
            )
    if "initial_value" in names:
        scores["initial_value"] = np.concatenate([_initial_value(g, start) for g in groups])
    if "soft_opc" in names or "td_error" in names:
        rows = rows[:NUM_CRITIC_ROWS]
        returns = data.episode_returns(dataset)
        # If most returns equal the lowest one (0, say), so does the quantile: no successes.
        succeeded = returns >= np.quantile(returns, settings.success_quantile)
        succeeded &= returns > returns.min()
        success = succeeded[np.asarray(dataset.episode)[rows]]
        sample = jax.tree.map(lambda x: x[rows], raw)
        found = [_critic_scores(group, sample, success) for group in groups]
        for name, values in zip(("soft_opc", "td_error"), zip(*found, strict=True), strict=True):
            if name in names:
                scores[name] = np.concatenate(values)
    return scores, fitted


def _fitted(
    groups: list[Trained],
    dataset: Data,
    rows: np.ndarray,
    next_observation: np.ndarray,
    start: np.ndarray,
    settings: Settings,
) -> fqe.Estimate:
    """FQE of all policies on the rows of the data, in the environment's rewards."""
    config = fqe.FQEConfig(num_steps=settings.fqe_num_steps, discount=settings.fqe_discount)
    dataset = data.normalize_observations(with_discount(dataset, config.discount))
    reward = np.asarray(dataset.transitions.reward)
    return fqe.fit(
        config,
        jax.tree.map(lambda x: x[rows], dataset.transitions),
        fqe.initial_observations(dataset),
        jnp.concatenate([group.actions(next_observation) for group in groups]),
        jnp.concatenate([group.actions(start) for group in groups]),
        jax.random.key(settings.seed),
        reward_range=(float(reward.min()), float(reward.max())),
    )


def _initial_value(group: Trained, start: np.ndarray) -> np.ndarray:
    """In the environment's rewards; exact if the run did not shift rewards or no episode ends."""
    value = group.values(start)
    if value is None:
        return np.full(len(group.seeds), np.nan)
    scale, bias = (float(x) for x in group.preprocessing[2:])
    return (critics.initial_value(value) - bias / (1.0 - group.discount)) / scale


def _critic_scores(
    group: Trained, raw: Transition, success: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Soft OPC and TD error, in units of the environment's rewards and of their square."""
    found = group.q_values(raw)
    if found is None:
        return (np.full(len(group.seeds), np.nan),) * 2
    scale, bias = (float(x) for x in group.preprocessing[2:])
    q, next_q = found
    error = critics.td_error(q, next_q, scale * raw.reward + bias, raw.terminal, group.discount)
    return critics.soft_opc(q, success) / scale, error / scale**2


def means(values: np.ndarray | None, group: Trained) -> np.ndarray:
    """Mean by policy, NaN if the run did not roll it out."""
    return np.full(len(group.seeds), np.nan) if values is None else values.mean(axis=1)


def true_values(
    scores: dict[str, np.ndarray], groups: list[Trained], discount: float
) -> dict[str, np.ndarray]:
    """True values of the scores that estimate returns. Those of `fqe` are NaN for runs whose
    returns have another discount than FQE."""
    own = [_discounted(group) for group in groups]
    same = [v if g.discount == discount else v * np.nan for v, g in zip(own, groups, strict=True)]
    found = {"fqe": np.concatenate(same), "initial_value": np.concatenate(own)}
    return {name: values for name, values in found.items() if name in scores}


def _discounted(group: Trained) -> np.ndarray:
    if group.discounted_returns is None:
        return np.full(len(group.seeds), np.nan)
    return group.discounted_returns
