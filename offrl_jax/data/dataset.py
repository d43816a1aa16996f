"""The dataset: one pytree of flat transitions, its sampling and its transforms.

Every source ends in `from_arrays`, so the rules of episode ends live here alone:
a true end stops the bootstrap, a time-out does not, and nothing crosses an episode boundary.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data import checks
from offrl_jax.types import Array, Float, InputError, Int, Key, Spec, Transition

STD_FLOOR = 1e-3  # added to every standard deviation (TD3+BC, CORL)


class Preprocessing(NamedTuple):
    """What was done to the raw numbers; travels with the policy."""

    observation_mean: Float[Array, "O"]
    observation_std: Float[Array, "O"]
    reward_scale: Float[Array, ""]
    reward_bias: Float[Array, ""]

    def normalize(self, observation: Float[Array, "*B O"]) -> Float[Array, "*B O"]:
        """Raw observation, as the environment gives it, to what the networks see."""
        rank = (1,) * (observation.ndim - 1) + (-1,)
        return (observation - self.observation_mean.reshape(rank)) / self.observation_std.reshape(
            rank
        )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["transitions", "episode", "preprocessing"],
    meta_fields=["spec", "discount"],
)
@dataclasses.dataclass(frozen=True)
class Dataset:
    """N transitions in episode order.

    Attributes:
      transitions: Fields of shape (N, ...), transformed as `preprocessing` says.
      episode: Index of each transition's episode, counted from 0.
      preprocessing: The transforms applied so far.
      spec: Shapes, bounds, environment, references.
      discount: γ of `transitions.return_to_go`.
    """

    transitions: Transition
    episode: Int[Array, "N"]
    preprocessing: Preprocessing
    spec: Spec
    discount: float = 0.99

    def __len__(self) -> int:
        return self.episode.shape[0]

    def bare(self) -> "Dataset":
        """The same data with the bare spec."""
        return dataclasses.replace(self, spec=self.spec.bare())

    @property
    def num_episodes(self) -> int:
        return int(self.episode[-1]) + 1


def sample(dataset: Dataset, key: Key, batch_size: int) -> Transition:
    """A uniform batch with replacement; pure, on the dataset's device."""
    index = jax.random.randint(key, (batch_size,), 0, len(dataset))
    return jax.tree.map(lambda x: x[index], dataset.transitions)


def from_arrays(
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    terminal: np.ndarray,
    *,
    truncation: np.ndarray | None = None,
    episode_end: np.ndarray | None = None,
    next_observation: np.ndarray | None = None,
    action_low: float | Sequence[float] | np.ndarray = -1.0,
    action_high: float | Sequence[float] | np.ndarray = 1.0,
    num_actions: int | None = None,
    clip_actions: bool = False,
    discount: float = 0.99,
    name: str = "arrays",
    **spec,
) -> Dataset:
    """Builds a dataset from flat arrays in time order.

    An episode ends where `terminal` or `truncation` is set (terminal wins where both are, with a
    warning) and at the last row, which counts as truncated. A truncated transition bootstraps from
    its stored next observation; without `next_observation` that is unknown and the transition is
    dropped, while elsewhere the next row's observation is used.

    Args:
      observation: (N, O), raw.
      action: (N, A), in the environment's bounds; (N,), indices, where actions are discrete.
      reward: (N,).
      terminal: (N,), true ends only.
      truncation: (N,), time-outs and cuts.
      episode_end: (N,), where episodes end, if not wherever one of the two above is set: data may
        stop the bootstrap in mid-episode (OGBench's masks).
      next_observation: (N, O).
      action_low: Lower action bounds, a number or A numbers.
      action_high: Upper action bounds, a number or A numbers.
      num_actions: A of discrete actions, which are the indices 0 to A − 1 and are held as one-hot
        rows; None where actions are continuous.
      clip_actions: Whether actions outside their bounds are clipped, with a warning, not refused.
      discount: γ of the discounted return-to-go, in [0, 1].
      name: The dataset's name in messages.
      **spec: Further fields of `Spec` (env_id, reference_scores, ...).

    Raises:
      InputError: naming the field whose length, shape, type or values cannot be used.
    """
    if not 0 <= discount <= 1:
        raise InputError(f"the discount is {discount}; give a number in [0, 1]")
    fields = {
        "observation": checks.numbers(name, "observation", observation, 2),
        "action": checks.numbers(name, "action", action, 2 if num_actions is None else 1),
        "reward": checks.numbers(name, "reward", reward, 1),
        "terminal": checks.numbers(name, "terminal", terminal, 1),
    }
    if next_observation is not None:
        fields["next_observation"] = checks.numbers(name, "next_observation", next_observation, 2)
    flags = {"truncation": truncation, "episode_end": episode_end}
    fields |= {k: checks.numbers(name, k, x, 1) for k, x in flags.items() if x is not None}
    n = len(fields["observation"])
    if n == 0:
        raise InputError(f"dataset {name} is empty; give at least one transition")
    for field, array in fields.items():
        if len(array) != n:
            raise InputError(
                f"dataset {name} has {len(array)} rows of {field} but {n} of observation; "
                "every field needs one row a transition"
            )
    observation, action, reward = (fields[key] for key in ("observation", "action", "reward"))
    next_observation = fields.get("next_observation")
    if next_observation is not None and next_observation.shape != observation.shape:
        raise InputError(
            f"dataset {name} has next_observation of width {next_observation.shape[1]} but "
            f"observation of width {observation.shape[1]}"
        )
    flags = {key: fields[key] for key in ("terminal", *flags) if key in fields}
    terminal, truncation = (flags.get(k, np.zeros(n)) == 1 for k in ("terminal", "truncation"))
    end = terminal | truncation if episode_end is None else flags["episode_end"] == 1
    end[-1] = True
    episode = checks.episodes(end)
    for key, array in fields.items():
        what = f"{key} of dataset {name} is not finite"
        checks.never(~np.isfinite(array), what, episode, "repair or drop that episode")
    for key, array in flags.items():
        what = f"{key} of dataset {name} has values other than 0 and 1"
        checks.never(~np.isin(array, (0, 1)), what, episode, "correct that episode")
    if both := int((terminal & truncation).sum()):
        logging.warning(
            "terminal and truncation of dataset %s are both set in %d of %d transitions; "
            "they are taken as true ends",
            *(name, both, n),
        )
    if num_actions is None:
        low, high = checks.bounds(name, action_low, action_high, action.shape[1])
        action = checks.to_unit(name, action, low, high, episode, clip_actions)
    else:
        action = checks.to_one_hot(name, action, num_actions, episode)
        low, high = np.zeros(num_actions, np.float32), np.ones(num_actions, np.float32)

    rows = Transition(
        observation=observation,
        action=action,
        reward=reward,
        next_observation=next_observation,
        terminal=terminal.astype(np.float32),
        next_action=np.concatenate([action[1:], action[-1:]]),
        next_action_valid=(~end).astype(np.float32),
        return_to_go=reward,  # replaced below, once the rows are final
    )
    if next_observation is None:
        rows = rows._replace(next_observation=np.concatenate([observation[1:], observation[-1:]]))
        known = ~end | terminal
        if not known.any():
            raise InputError(
                f"dataset {name} has no transition with a known next observation; "
                "give next_observation"
            )
        rows = Transition(*(field[known] for field in rows))
        episode = np.unique(episode[known], return_inverse=True)[1].astype(np.int32)
    rows = rows._replace(return_to_go=_returns_to_go(rows.reward, episode, discount))

    spec = Spec(
        observation_size=observation.shape[1],
        action_size=action.shape[1],
        action_low=tuple(low.tolist()),
        action_high=tuple(high.tolist()),
        discrete=num_actions is not None,
        name=name,
        **spec,
    )
    if not spec.fingerprint:
        spec = dataclasses.replace(spec, fingerprint=fingerprint(*rows[:5], episode, low, high))
    preprocessing = Preprocessing(
        observation_mean=jnp.zeros(observation.shape[1]),
        observation_std=jnp.ones(observation.shape[1]),
        reward_scale=jnp.ones(()),
        reward_bias=jnp.zeros(()),
    )
    # jnp.array copies in the background, and device_put may not copy at all: return only when
    # the caller's arrays are no longer needed.
    rows, episode = jax.block_until_ready(jax.tree.map(jnp.array, (rows, episode)))
    return Dataset(rows, episode, preprocessing, spec, discount)


def normalize_observations(dataset: Dataset) -> Dataset:
    """Standardises observations: (s − mean) / (std + 1e-3), as TD3+BC and CORL do.

    Features that never vary come out as 0, with a warning.
    """
    observation = np.asarray(dataset.transitions.observation)
    constant = np.flatnonzero(observation.min(0) == observation.max(0))
    if len(constant):
        logging.warning(
            "%d of %d observation features of %s never vary (columns %s); what differs from them "
            "later is divided by %g",
            *(len(constant), observation.shape[1], dataset.spec.name),
            ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else ""),
            STD_FLOOR,
        )
    mean = observation.mean(0, dtype=np.float64)
    std = observation.std(0, dtype=np.float64) + STD_FLOOR
    old = dataset.preprocessing
    step = old._replace(
        observation_mean=jnp.asarray(mean, jnp.float32),
        observation_std=jnp.asarray(std, jnp.float32),
    )
    transitions = dataset.transitions._replace(
        observation=step.normalize(dataset.transitions.observation),
        next_observation=step.normalize(dataset.transitions.next_observation),
    )
    preprocessing = old._replace(
        observation_mean=old.observation_mean + old.observation_std * step.observation_mean,
        observation_std=old.observation_std * step.observation_std,
    )
    return dataclasses.replace(dataset, transitions=transitions, preprocessing=preprocessing)


def transform_rewards(dataset: Dataset, *, scale: float = 1.0, bias: float = 0.0) -> Dataset:
    """r ← scale · r + bias, with a new return-to-go; AntMaze recipes use (1, −1) and (10, −5).

    Where nothing terminates this maps Q to scale · Q + bias / (1 − γ), so penalty weights and
    thresholds are tied to it.

    Raises:
      InputError: if the scale is 0 or a number is not finite, as no return could be told any more.
    """
    with np.errstate(over="ignore"):
        stored = np.float32([scale, bias, scale * dataset.preprocessing.reward_scale])
    if stored[0] == 0 or stored[2] == 0 or not np.isfinite(stored).all():
        raise InputError(
            f"rewards cannot become {scale} r + {bias}; give finite numbers, scale not 0"
        )
    old = dataset.preprocessing
    reward = dataset.transitions.reward * scale + bias
    transitions = dataset.transitions._replace(
        reward=reward,
        return_to_go=jnp.asarray(
            _returns_to_go(np.asarray(reward), np.asarray(dataset.episode), dataset.discount)
        ),
    )
    preprocessing = old._replace(
        reward_scale=old.reward_scale * scale, reward_bias=old.reward_bias * scale + bias
    )
    return dataclasses.replace(dataset, transitions=transitions, preprocessing=preprocessing)


def scale_rewards_by_return_range(dataset: Dataset) -> Dataset:
    """r ← r · 1000 / (max return − min return), the Gym locomotion transform of IQL."""
    returns = _sums(dataset, np.asarray(dataset.transitions.reward, np.float64))
    spread = returns.max() - returns.min()
    if spread <= 1e-6 * max(1.0, np.abs(returns).max()):
        raise InputError(
            f"all {len(returns)} episodes of {dataset.spec.name} have the same return, so rewards "
            "cannot be scaled by the range of returns; leave that transform out"
        )
    return transform_rewards(dataset, scale=1000.0 / spread)


def with_discount(dataset: Dataset, discount: float) -> Dataset:
    """The dataset with its returns-to-go discounted by γ = `discount`."""
    if discount == dataset.discount:
        return dataset
    return transform_rewards(dataclasses.replace(dataset, discount=float(discount)))


def keep_best_episodes(dataset: Dataset, fraction: float) -> Dataset:
    """The episodes with the highest undiscounted return: percentile behaviour cloning's filter.

    Args:
      dataset: The data to choose from.
      fraction: Share of the episodes to keep, in (0, 1]; at least one is kept.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"the share of episodes to keep is {fraction}; give a number in (0, 1]")
    returns = episode_returns(dataset)
    num_kept = max(1, round(fraction * len(returns)))
    best = np.sort(np.argsort(-returns, kind="stable")[:num_kept])
    rows = np.flatnonzero(np.isin(dataset.episode, best))
    episode = np.searchsorted(best, np.asarray(dataset.episode)[rows]).astype(np.int32)
    transitions = jax.tree.map(lambda x: x[rows], dataset.transitions)
    return dataclasses.replace(dataset, transitions=transitions, episode=jnp.asarray(episode))


def episode_returns(dataset: Dataset) -> np.ndarray:
    """Undiscounted return of each episode in raw reward units, (episodes,)."""
    scale, bias = (float(dataset.preprocessing[i]) for i in (2, 3))
    raw = (np.asarray(dataset.transitions.reward, np.float64) - bias) / scale
    return _sums(dataset, raw)


def _sums(dataset: Dataset, reward: np.ndarray) -> np.ndarray:
    """Sum of a reward over each episode, (episodes,)."""
    return np.bincount(np.asarray(dataset.episode), weights=reward)


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 over the arrays' shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _returns_to_go(reward: np.ndarray, episode: np.ndarray, discount: float) -> np.ndarray:
    """R_t = r_t + γ R_{t+1} within each episode."""
    returns = np.empty(len(reward), np.float32)
    starts = np.flatnonzero(np.diff(episode, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(reward)], strict=True):
        backwards = reward[start:stop][::-1].astype(np.float64).tolist()
        returns[start:stop] = list(accumulate(backwards, lambda later, r: r + discount * later))[
            ::-1
        ]
    return returns
