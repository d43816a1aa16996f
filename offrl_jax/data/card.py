"""The dataset card: what to know about a dataset before learning from it.

All in raw units: rewards as recorded, observations not normalised, actions in the environment's
bounds. Every value is of JSON's types.
"""

import json
from typing import Any

import numpy as np

from offrl_jax.data import scores
from offrl_jax.data.dataset import Dataset, episode_returns
from offrl_jax.data.summary import SATURATED, summary
from offrl_jax.types import Spec

NUM_BINS = 40
CELL = 1.0  # width of a cell of the observation space, in standard deviations of each feature
QUANTILES = {"min": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "max": 100}

# When to warn.
FEW_TRANSITIONS = 10_000
FEW_EPISODES = 10
MANY_SATURATED = 0.05  # share of action entries
MANY_REPEATED = 0.01  # share of transitions
MANY_WITHOUT_NEXT_ACTION = 0.05  # share of the transitions that are no true ends


def card(dataset: Dataset, time_limit: int | None = None) -> dict[str, Any]:
    """Everything on the card.

    Args:
      dataset: As loaded; transforms of rewards and observations are undone.
      time_limit: Of the environment's episodes, in steps, where it is known; without it
        time-outs and episodes that were cut count as one.
    """
    counts, spec, rows = summary(dataset), dataset.spec, dataset.transitions
    scale, bias = (float(x) for x in dataset.preprocessing[2:])
    mean, std = (np.asarray(x) for x in dataset.preprocessing[:2])
    observation, next_observation = (
        np.asarray(x) * std + mean for x in (rows.observation, rows.next_observation)
    )
    reward = (np.asarray(rows.reward) - np.float32(bias)) / np.float32(scale)
    action, terminal = np.asarray(rows.action), np.asarray(rows.terminal)
    episode = np.asarray(dataset.episode)
    lengths, returns = np.bincount(episode), episode_returns(dataset)

    moving = standardised(observation)
    keys = row_keys(observation, action, reward, next_observation, terminal)
    described = {
        "name": spec.name,
        "fingerprint": spec.fingerprint,
        "environment": {
            "id": spec.env_id,
            "kwargs": json.loads(spec.env_kwargs),
            "time_limit": time_limit,
        },
        "transitions": counts["transitions"],
        "episodes": {
            "number": counts["episodes"],
            "lengths": described_by_quantiles(lengths),
            "terminal": counts["terminal_ends"],
            **_other_ends(lengths[terminal[_last_rows(episode)] == 0], time_limit),
        },
        "returns": described_by_quantiles(returns),
        "scores": spec.reference_scores
        and described_by_quantiles(scores.normalized_score(returns, spec.reference_scores)),
        "rewards": _rewards(reward),
        "observations": _features(observation),
        "actions": _actions(spec, action),
        "coverage": coverage(moving),
        "repeated": {
            "transitions": num_repeated(keys),
            "episodes": num_repeated(episode_keys(keys, episode)),
        },
        "continuity": _continuity(dataset, observation, next_observation),
        "histograms": {
            "return": histogram(returns),
            "length": histogram(lengths),
            "reward": histogram(reward),
            "action": []
            if spec.discrete
            else [histogram(column, (-1.0, 1.0)) for column in action.T],
        },
        "map": _map(spec, observation, moving),
    }
    return described | {"warnings": warnings(described)}


def described_by_quantiles(x: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and quantiles (linearly interpolated) of numbers (N,)."""
    x = np.asarray(x, np.float64)
    quantiles = np.percentile(x, list(QUANTILES.values())).tolist()
    moments = {"mean": float(x.mean()), "std": float(x.std())}
    return moments | dict(zip(QUANTILES, quantiles, strict=True))


def histogram(x: np.ndarray, limits: tuple[float, float] | None = None) -> dict[str, list]:
    """Counts of numbers (N,) in equal bins between the limits, by default their extremes."""
    counts, edges = np.histogram(x, NUM_BINS, limits)
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def row_keys(*columns: np.ndarray) -> np.ndarray:
    """A 64-bit number of each row, equal for rows that are equal bit for bit (0 and −0 are), (N,).

    A random linear function of the bits, so that two given rows that differ have the same with a
    probability of at most 2⁻³³; numbers are sorted much faster than rows.

    Args:
      *columns: Arrays (N,) or (N, W), of whole numbers or numbers in float32.
    """
    random = np.random.default_rng(0)
    keys = np.zeros(len(columns[0]), np.uint64)
    for array in columns:
        for column in array.reshape(len(array), -1).T:
            bits = column if column.dtype.kind in "iu" else _bits(column)
            keys += bits.astype(np.uint64) * (random.integers(2**64, dtype=np.uint64) | 1)
    return keys


def _bits(column: np.ndarray) -> np.ndarray:
    return (column.astype(np.float32) + np.float32(0)).view(np.uint32)


def _mixed(keys: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers that no sum survives (splitmix64's)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def episode_keys(keys: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """`row_keys` of whole episodes, of those of their transitions (N,), in order: (episodes,)."""
    starts = np.flatnonzero(np.diff(episode, prepend=-1))
    step = np.arange(len(episode)) - starts[episode]
    return np.add.reduceat(_mixed(keys + _mixed(step.astype(np.uint64) + np.uint64(1))), starts)


def num_repeated(keys: np.ndarray) -> int:
    """How many are equal to an earlier one."""
    return len(keys) - len(np.unique(keys))


def effective_number(keys: np.ndarray) -> float:
    """exp(H) of the values' frequencies: K for K values equally often, less if some dominate."""
    frequency = np.unique(keys, return_counts=True)[1] / len(keys)
    return float(np.exp(-np.sum(frequency * np.log(frequency))))


def effective_dimension(x: np.ndarray) -> float:
    """(Σ λ)² / Σ λ² of the eigenvalues λ of the features' covariance, x (N, W): W for independent
    features of one variance, 1 where all of them move together.

    Source: the participation ratio, e.g. Gao et al. 2017, bioRxiv 214262, eq. 5.
    """
    covariance = np.atleast_2d(np.cov(x, rowvar=False, bias=True))
    return float(np.trace(covariance) ** 2 / np.sum(np.square(covariance)))


def standardised(observation: np.ndarray) -> np.ndarray:
    """The features that vary, with mean 0 and standard deviation 1, (N, W)."""
    moving = observation[:, observation.min(0) != observation.max(0)].astype(np.float64)
    return (moving - moving.mean(0)) / moving.std(0)


def coverage(moving: np.ndarray) -> dict[str, Any]:
    """How much of the space of (standardised) observations the data visit.

    Cells are cubes as wide as a standard deviation: `effective_cells` are as many as would be if
    all were visited equally often.
    """
    cells = row_keys(np.floor(moving / CELL).astype(np.int64))
    return {
        "varying_features": moving.shape[1],
        "effective_dimension": effective_dimension(moving) if moving.shape[1] else 0.0,
        "cells": len(np.unique(cells)),
        "effective_cells": effective_number(cells),
    }


def warnings(card: dict[str, Any]) -> list[str]:
    """What whoever learns from such data should think of first, in sentences.

    Args:
      card: All else on it.
    """
    episodes, rewards, actions = (card[key] for key in ("episodes", "rewards", "actions"))
    number, transitions, repeated = episodes["number"], card["transitions"], card["repeated"]
    share_repeated = repeated["transitions"] / transitions
    constant = {
        what: np.flatnonzero(np.equal(card[what]["min"], card[what]["max"])).tolist()
        for what in ("observations", "actions")
        if "min" in card[what]
    }
    never = np.flatnonzero(np.equal(actions.get("shares", ()), 0)).tolist()
    without_next = card["continuity"]["without_next_action"]
    limit = card["environment"]["time_limit"]
    found = {
        f"only {transitions:,} transitions": transitions < FEW_TRANSITIONS,
        "a single episode: nothing tells the policy from its luck": number == 1,
        f"only {number} episodes": 1 < number < FEW_EPISODES,
        "no true end: all values bootstrap; right only if the task never terminates": (
            episodes["terminal"] == 0
        ),
        f"episodes last up to {episodes['lengths']['max']:.0f} steps but the environment times out "
        f"after {limit}: policies are judged on less than the data show": (
            limit is not None and episodes["lengths"]["max"] > limit
        ),
        f"every reward is {rewards['min']:g}: there is nothing to tell good from bad": (
            rewards["distinct"] == 1
        ),
        f"{actions.get('saturated', 0):.0%} of action entries are at their bounds, where the "
        "density of a tanh-Gaussian diverges": actions.get("saturated", 0) > MANY_SATURATED,
        f"actions never taken: {', '.join(map(str, never))}; nothing tells what they are worth": (
            len(never) > 0
        ),
        f"{share_repeated:.1%} of transitions repeat an earlier one exactly": (
            share_repeated > MANY_REPEATED
        ),
        f"{repeated['episodes']} of {number} episodes repeat an earlier one exactly": (
            repeated["episodes"] > 0
        ),
        f"{card['continuity']['jumps']:.1%} of the steps within episodes do not lead to the next "
        "row's observation": card["continuity"]["jumps"] > 0,
        f"{without_next:.0%} of transitions that are no true ends have no next action, which "
        "methods such as ReBRAC look at": without_next > MANY_WITHOUT_NEXT_ACTION,
        "no environment is named: policies can be trained but not evaluated; give env_id, of "
        "shards where they are written": card["environment"]["id"] is None,
    }
    sentences = [sentence for sentence, holds in found.items() if holds]
    sentences += [
        f"{len(columns)} of {len(card[what]['min'])} numbers of the {what} never vary (columns "
        f"{', '.join(map(str, columns))})"
        for what, columns in constant.items()
        if columns
    ]
    caveat = scores.CAVEATS.get(card["environment"]["id"])
    return [*sentences, caveat] if caveat else sentences


def _actions(spec: Spec, action: np.ndarray) -> dict[str, Any]:
    """Of discrete actions (N, A) each one's share; of others their range and what is at bounds."""
    if spec.discrete:
        return {"shares": action.mean(0, dtype=np.float64).tolist()}
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    is_saturated = np.abs(action) > SATURATED
    return _features(0.5 * (low + high) + 0.5 * (high - low) * action) | {
        "low": low.tolist(),
        "high": high.tolist(),
        "saturated": float(is_saturated.mean()),
        "saturated_by_feature": is_saturated.mean(0).tolist(),
    }


def _features(x: np.ndarray) -> dict[str, list]:
    """Extremes, means and standard deviations of x (N, W) by feature."""
    return {
        "min": x.min(0).tolist(),
        "mean": x.mean(0, dtype=np.float64).tolist(),
        "std": x.std(0, dtype=np.float64).tolist(),
        "max": x.max(0).tolist(),
    }


def _rewards(reward: np.ndarray) -> dict[str, Any]:
    values, counts = np.unique(reward, return_counts=True)
    return described_by_quantiles(reward) | {
        "distinct": len(values),
        "zero": float(np.mean(reward == 0)),
        "most_frequent": float(values[counts.argmax()]),
        "share_of_most_frequent": float(counts.max() / len(reward)),
    }


def _last_rows(episode: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(episode, append=-1))


def _other_ends(lengths: np.ndarray, time_limit: int | None) -> dict[str, int]:
    """How episodes of these lengths ended that did not end truly. A step short of the limit is a
    time-out too: without next observations the last step of a truncated episode is dropped."""
    if time_limit is None:
        return {"truncated": len(lengths)}
    timed_out = int(np.isin(lengths, (time_limit - 1, time_limit)).sum())
    return {"timed_out": timed_out, "cut": len(lengths) - timed_out}


def _continuity(
    dataset: Dataset, observation: np.ndarray, next_observation: np.ndarray
) -> dict[str, float]:
    """Shares: of steps within episodes whose next observation is not the next row's, of
    transitions but true ends that have no next action."""
    episode, rows = np.asarray(dataset.episode), dataset.transitions
    within = np.flatnonzero(np.diff(episode) == 0)
    jumps = (next_observation[within] != observation[within + 1]).any(1)
    alive = np.asarray(rows.terminal) == 0
    missing = np.asarray(rows.next_action_valid)[alive] == 0
    return {
        "jumps": float(jumps.mean()) if len(within) else 0.0,
        "without_next_action": float(missing.mean()) if alive.any() else 0.0,
    }


def _map(spec: Spec, observation: np.ndarray, moving: np.ndarray) -> dict[str, Any] | None:
    """Counts of where the agent was in a maze, else of the first two principal components."""
    first = "".join(spec.observation_keys[:1])
    is_position = {  # mazes' observations begin with the position, if these entries come first
        "pointmaze": first in ("", "achieved_goal", "observation"),
        "antmaze": first in ("", "achieved_goal"),
    }.get(scores.domain(spec), False)
    plane = observation[:, :2] if is_position else principal_components(moving)
    if plane.shape[1] < 2:
        return None
    counts, x, y = np.histogram2d(*plane.T, NUM_BINS)
    return {
        "is_position": is_position,
        "counts": counts.astype(int).tolist(),
        "x": x.tolist(),
        "y": y.tolist(),
    }


def principal_components(moving: np.ndarray) -> np.ndarray:
    """Standardised features (N, W) along the two directions in which they vary most, (N, 2)."""
    vectors = np.linalg.eigh(moving.T @ moving)[1]  # by eigenvalue, ascending
    return moving @ vectors[:, :-3:-1]
