"""The dataset: one pytree of flat transitions, its sampling and its transforms.

Every source ends in `dataset_from_arrays`, so the rules of episode ends live here alone:
a true end stops the bootstrap, a time-out does not, and nothing crosses an episode boundary.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Sequence
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


class Data:
    """N transitions in episode order, wherever they lie: what a `Dataset` and a `HostDataset` have
    in common.

    Attributes:
      preprocessing: The transforms applied so far.
      spec: Shapes, bounds, environment, references.
      discount: γ of `return_to_go`.
    """

    preprocessing: Preprocessing
    spec: Spec
    discount: float

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def num_episodes(self) -> int:
        raise NotImplementedError

    def parts(self, *fields: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Fields of `Transition`, or `episode`, of all rows in order, as many rows at a time as lie
        together in memory."""
        raise NotImplementedError

    def take(self, index: Int[Array | np.ndarray, "M"]) -> "Dataset":
        """The rows of that index, on the device."""
        raise NotImplementedError

    def with_observations(self, step: Preprocessing, preprocessing: Preprocessing) -> "Data":
        """The data as `preprocessing` says, of whose observations `step` is what is new."""
        raise NotImplementedError

    def with_rewards(self, scale: float, bias: float, preprocessing: Preprocessing) -> "Data":
        """The data as `preprocessing` says, of whose rewards scale · r + bias is what is new."""
        raise NotImplementedError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["transitions", "episode", "preprocessing"],
    meta_fields=["spec", "discount"],
)
@dataclasses.dataclass(frozen=True)
class Dataset(Data):
    """N transitions in episode order, on the device.

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

    def parts(self, *fields: str) -> Iterator[tuple[np.ndarray, ...]]:
        columns = self.transitions._asdict() | {"episode": self.episode}
        yield tuple(np.asarray(columns[field]) for field in fields)

    def take(self, index: Int[Array | np.ndarray, "M"]) -> "Dataset":
        rows = jax.tree.map(lambda x: x[index], self.transitions)
        return dataclasses.replace(self, transitions=rows, episode=self.episode[index])

    def with_observations(self, step: Preprocessing, preprocessing: Preprocessing) -> "Dataset":
        transitions = self.transitions._replace(
            observation=step.normalize(self.transitions.observation),
            next_observation=step.normalize(self.transitions.next_observation),
        )
        return dataclasses.replace(self, transitions=transitions, preprocessing=preprocessing)

    def with_rewards(self, scale: float, bias: float, preprocessing: Preprocessing) -> "Dataset":
        reward = self.transitions.reward * scale + bias
        returns = returns_to_go(np.asarray(reward), np.asarray(self.episode), self.discount)
        transitions = self.transitions._replace(reward=reward, return_to_go=jnp.asarray(returns))
        return dataclasses.replace(self, transitions=transitions, preprocessing=preprocessing)


def step_keys(key: Key, step: Int[Array, ""]) -> tuple[Key, Key]:
    """Of a run's key and step, the key that its batch is drawn with and the one that its update
    takes."""
    sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
    return sample_key, update_key


def draw(key: Key, batch_size: int, num_rows: int) -> Int[Array, "B"]:
    """The rows of a uniform batch with replacement."""
    return jax.random.randint(key, (batch_size,), 0, num_rows)


def sample(dataset: Dataset, key: Key, batch_size: int) -> Transition:
    """A uniform batch with replacement; pure, on the dataset's device."""
    index = draw(key, batch_size, len(dataset))
    return jax.tree.map(lambda x: x[index], dataset.transitions)


def dataset_from_arrays(
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
    num_actions: int | np.integer | None = None,
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
      action_low: Lower action bounds, a number or A numbers; of no use where actions are discrete.
      action_high: Upper action bounds, likewise.
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
    are_whole = getattr(action, "dtype", np.dtype(float)).kind in "iub"
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
        if are_whole:
            logging.warning(
                "actions of dataset %s are whole numbers and taken as continuous; give num_actions "
                "if they are indices",
                name,
            )
        low, high = checks.bounds(name, action_low, action_high, action.shape[1])
        action = checks.to_unit(name, action, low, high, episode, clip_actions)
    else:
        action = checks.to_one_hot(name, action, num_actions, episode)
        low, high = np.zeros(action.shape[1]), np.ones(action.shape[1])

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
    rows = rows._replace(return_to_go=returns_to_go(rows.reward, episode, discount))

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


def normalize_observations(dataset: Data) -> Data:
    """Standardises observations: (s − mean) / (std + 1e-3), as TD3+BC and CORL do.

    Features that never vary come out as 0, with a warning.
    """
    mean, variance, low, high = _moments(dataset)
    constant = np.flatnonzero(low == high)
    if len(constant):
        logging.warning(
            "%d of %d observation features of %s never vary (columns %s); what differs from them "
            "later is divided by %g",
            *(len(constant), len(mean), dataset.spec.name),
            ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else ""),
            STD_FLOOR,
        )
    old = dataset.preprocessing
    step = old._replace(
        observation_mean=jnp.asarray(mean, jnp.float32),
        observation_std=jnp.asarray(np.sqrt(variance) + STD_FLOOR, jnp.float32),
    )
    preprocessing = old._replace(
        observation_mean=old.observation_mean + old.observation_std * step.observation_mean,
        observation_std=old.observation_std * step.observation_std,
    )
    return dataset.with_observations(step, preprocessing)


def _moments(dataset: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance, least and greatest of each observation feature, (O,) each, joined from those
    of the parts (Chan, Golub and LeVeque 1983)."""
    mean, variance, low, high, count = 0.0, 0.0, np.inf, -np.inf, 0
    for (x,) in dataset.parts("observation"):
        count += len(x)
        share = len(x) / count
        away = x.mean(0, dtype=np.float64) - mean
        variance = (1 - share) * variance + share * x.var(0, dtype=np.float64)
        variance = variance + share * (1 - share) * away**2
        mean = mean + share * away
        low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
    return mean, variance, low, high


def transform_rewards(dataset: Data, *, scale: float = 1.0, bias: float = 0.0) -> Data:
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
    preprocessing = old._replace(
        reward_scale=old.reward_scale * scale, reward_bias=old.reward_bias * scale + bias
    )
    return dataset.with_rewards(scale, bias, preprocessing)


def scale_rewards_by_return_range(dataset: Data) -> Data:
    """r ← r · 1000 / (max return − min return), the Gym locomotion transform of IQL."""
    returns = _sums(dataset)
    spread = returns.max() - returns.min()
    if spread <= 1e-6 * max(1.0, np.abs(returns).max()):
        raise InputError(
            f"all {len(returns)} episodes of {dataset.spec.name} have the same return, so rewards "
            "cannot be scaled by the range of returns; leave that transform out"
        )
    return transform_rewards(dataset, scale=1000.0 / spread)


def with_discount(dataset: Data, discount: float) -> Data:
    """The dataset with its returns-to-go discounted by γ = `discount`."""
    if discount == dataset.discount:
        return dataset
    return transform_rewards(dataclasses.replace(dataset, discount=float(discount)))


def keep_best_episodes(dataset: Data, fraction: float) -> Dataset:
    """The episodes with the highest undiscounted return: percentile behaviour cloning's filter.

    Args:
      dataset: The data to choose from.
      fraction: Share of the episodes to keep, in (0, 1]; at least one is kept.

    Raises:
      InputError: if the share is none, or the data are not on the device.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"episodes of {dataset.spec.name} cannot be chosen from in host memory; choose before "
            "the data are written as shards, or load them with --data_placement=device"
        )
    if not 0 < fraction <= 1:
        raise InputError(f"the share of episodes to keep is {fraction}; give a number in (0, 1]")
    returns = episode_returns(dataset)
    num_kept = max(1, round(fraction * len(returns)))
    best = np.sort(np.argsort(-returns, kind="stable")[:num_kept])
    rows = np.flatnonzero(np.isin(dataset.episode, best))
    episode = np.searchsorted(best, np.asarray(dataset.episode)[rows]).astype(np.int32)
    transitions = jax.tree.map(lambda x: x[rows], dataset.transitions)
    return dataclasses.replace(dataset, transitions=transitions, episode=jnp.asarray(episode))


def episode_returns(dataset: Data) -> np.ndarray:
    """Undiscounted return of each episode in raw reward units, (episodes,)."""
    scale, bias = (float(dataset.preprocessing[i]) for i in (2, 3))
    return _sums(dataset, scale, bias)


def _sums(dataset: Data, scale: float = 1.0, bias: float = 0.0) -> np.ndarray:
    """Sum of (r − bias) / scale over each episode, (episodes,)."""
    sums = np.zeros(dataset.num_episodes)
    for reward, episode in dataset.parts("reward", "episode"):
        np.add.at(sums, episode, (reward.astype(np.float64) - bias) / scale)
    return sums


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 over the arrays' shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def returns_to_go(
    reward: np.ndarray, episode: np.ndarray, discount: float, after: float = 0.0
) -> np.ndarray:
    """R_t = r_t + γ R_{t+1} within each episode, the last one followed by R = `after`."""
    returns = np.empty(len(reward), np.float32)
    starts = np.flatnonzero(np.diff(episode, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(reward)], strict=True):
        backwards = reward[start:stop][::-1].astype(np.float64).tolist()
        if stop == len(reward):
            backwards[0] += discount * after
        returns[start:stop] = list(accumulate(backwards, lambda later, r: r + discount * later))[
            ::-1
        ]
    return returns
