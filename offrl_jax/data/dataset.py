"""The dataset: one pytree of flat transitions, and its sampling."""

import dataclasses
import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.data.scores import normalized_score
from offrl_jax.types import Array, Float, Int, Key, Spec, Transition


class Preprocessing(NamedTuple):
    """Transforms of the raw numbers; stored with the policy."""

    observation_mean: Float[Array, "O"]
    observation_std: Float[Array, "O"]
    reward_scale: Float[Array, ""]
    reward_bias: Float[Array, ""]

    @property
    def is_identity(self) -> bool:
        """Whether there are no transforms."""
        nothing = 0.0, 1.0, 1.0, 0.0
        return all(bool((x == same).all()) for x, same in zip(self, nothing, strict=True))

    def normalize(self, observation: Float[Array, "*B O"]) -> Float[Array, "*B O"]:
        """Maps a raw observation of the environment to the input of the networks."""
        rank = (1,) * (observation.ndim - 1) + (-1,)
        return (observation - self.observation_mean.reshape(rank)) / self.observation_std.reshape(
            rank
        )


class Data:
    """N transitions in episode order, on the device or the host: what `Dataset` and `HostDataset`
    have in common.

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

    def __repr__(self) -> str:
        """One line: name, sizes, mean return and score, environment, fingerprint."""
        returns, spec = episode_returns(self).mean(), self.spec
        score = ""
        if spec.reference_scores is not None:
            score = f" (score {normalized_score(returns, spec.reference_scores):.1f})"
        return (
            f"{spec.name}: {len(self):,} transitions in {self.num_episodes:,} episodes, "
            f"mean return {returns:.1f}{score}, environment {spec.env_id}, "
            f"fingerprint {spec.fingerprint[:12]}"
        )

    def parts(self, *fields: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields fields of `Transition`, or `episode`, of all rows in order, in parts that lie
        together in memory."""
        raise NotImplementedError

    def take(self, index: Int[Array | np.ndarray, "M"]) -> "Dataset":
        """The rows with these indices, on the device."""
        raise NotImplementedError

    def normalized(self, step: Preprocessing, preprocessing: Preprocessing) -> "Data":
        """The data with observations normalised by `step`; `preprocessing` is all of it so far."""
        raise NotImplementedError

    def rescaled(self, scale: float, bias: float, preprocessing: Preprocessing) -> "Data":
        """The data with rewards scale · r + bias; `preprocessing` is all of it so far."""
        raise NotImplementedError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["transitions", "episode", "preprocessing"],
    meta_fields=["spec", "discount"],
)
@dataclasses.dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        if isinstance(self.episode, jax.core.Tracer) or not isinstance(self.episode, jax.Array):
            return f"Dataset({self.spec.name}, {self.episode})"  # of traced values
        return super().__repr__()

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

    def normalized(self, step: Preprocessing, preprocessing: Preprocessing) -> "Dataset":
        transitions = self.transitions._replace(
            observation=step.normalize(self.transitions.observation),
            next_observation=step.normalize(self.transitions.next_observation),
        )
        return dataclasses.replace(self, transitions=transitions, preprocessing=preprocessing)

    def rescaled(self, scale: float, bias: float, preprocessing: Preprocessing) -> "Dataset":
        reward = self.transitions.reward * scale + bias
        returns = returns_to_go(np.asarray(reward), np.asarray(self.episode), self.discount)
        transitions = self.transitions._replace(reward=reward, return_to_go=jnp.asarray(returns))
        return dataclasses.replace(self, transitions=transitions, preprocessing=preprocessing)


def step_keys(key: Key, step: Int[Array, ""]) -> tuple[Key, Key]:
    """Two keys for a step, from the run's key: for drawing its batch and for its update."""
    sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
    return sample_key, update_key


def draw(key: Key, batch_size: int, num_rows: int) -> Int[Array, "B"]:
    """The rows of a uniform batch with replacement."""
    return jax.random.randint(key, (batch_size,), 0, num_rows)


def sample(dataset: Dataset, key: Key, batch_size: int) -> Transition:
    """A uniform batch with replacement; pure, on the dataset's device."""
    return gather(dataset, draw(key, batch_size, len(dataset)))


def gather(dataset: Dataset, rows: Int[Array, "*B"]) -> Transition:
    """The transitions of these rows, with their leading axes."""
    return jax.tree.map(lambda x: x[rows], dataset.transitions)


def episode_returns(dataset: Data) -> np.ndarray:
    """Undiscounted return of each episode in raw reward units, (episodes,)."""
    scale, bias = (float(dataset.preprocessing[i]) for i in (2, 3))
    return reward_sums(dataset, scale, bias)


def reward_sums(dataset: Data, scale: float = 1.0, bias: float = 0.0) -> np.ndarray:
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
