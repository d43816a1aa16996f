"""Rollouts of every run's policy, all runs × episodes at once, one compiled call a step."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from offrl_jax import environments
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.axes import over_runs
from offrl_jax.data import scores
from offrl_jax.data.dataset import Dataset, Preprocessing
from offrl_jax.types import Array, Float, Key, Spec


@dataclasses.dataclass(frozen=True, repr=False)
class Rollouts:
    """Results by run and episode, each array (*runs, episodes).

    Attributes:
      episode_return: Undiscounted, in the environment's rewards.
      discounted_return: Discounted, in the environment's rewards.
      length: Steps.
      success: 1 if the environment reported success at any step, 0 if not, NaN if it never says.
      learned_value: The critic's estimate at the first state; NaN without a critic. It looks
        beyond the time limit and, in soft critics, counts entropy.
      actual_value: The discounted return from there in the learner's rewards, which does neither.
    """

    episode_return: np.ndarray
    discounted_return: np.ndarray
    length: np.ndarray
    success: np.ndarray
    learned_value: np.ndarray
    actual_value: np.ndarray

    def __getitem__(self, index: int) -> "Rollouts":
        """Those of one setting."""
        arrays = (getattr(self, field.name)[index] for field in dataclasses.fields(self))
        return Rollouts(*arrays)

    def __repr__(self) -> str:
        shape, mean = self.episode_return.shape, np.nanmean(self.episode_return)
        return f"Rollouts(runs {shape[:-1]}, {shape[-1]} episodes, mean return {mean:.1f})"

    @property
    def value_error(self) -> np.ndarray:
        """Learned minus actual value: positive where the learner over-estimates."""
        return self.learned_value - self.actual_value


MOST_ENVIRONMENTS = 512  # at once; a simulator's takes megabytes and milliseconds to make


class Evaluator:
    """Environments for `num_episodes` episodes of each run, made once and used at every evaluation:
    one at once, which shows whether it fits the data, the others where they are first needed.
    Where that would be more than `MOST_ENVIRONMENTS`, runs on one axis take turns.

    Episode j of every run and every evaluation starts from the same seed, so that policies are
    compared on the same starts. An environment whose episode is over is not stepped again.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        dataset: Dataset,
        runs: tuple[int, ...],
        num_episodes: int,
        seed: int = 0,
        *,
        sampled: bool | None = None,
        make_env: Callable[[], Any] | None = None,
    ):
        """Args:
        algorithm: Whose policies to roll out.
        dataset: Gives the environment, the preprocessing and the discount.
        runs: Shape of the run axes: () or (S,) or (H, S).
        num_episodes: Episodes a run.
        seed: Of the first episode's start; the others follow on.
        sampled: Sample actions from π, with the same keys at every evaluation, instead of taking
          its mode. None follows the algorithm's `samples`.
        make_env: Makes the environment, in place of the one that the dataset names. Its episodes
          must end.

        Raises:
          InputError: if the environment is unknown or its shapes differ from the data's.
        """
        self._spec = dataset.spec
        self._act = _over_runs_and_episodes(algorithm.chunk or _chunk_of_one(algorithm.act))
        self._value = algorithm.value and _over_runs_and_episodes(algorithm.value)
        self._preprocessing, self._discount = dataset.preprocessing, dataset.discount
        num_at_once = max(1, MOST_ENVIRONMENTS // num_episodes)
        self._runs = tuple(runs)
        at_once = (min(runs[0], num_at_once),) if len(runs) == 1 else runs
        self._shape = (*at_once, num_episodes)
        self._sampled = algorithm.samples if sampled is None else sampled
        self._seeds = seed + np.arange(np.prod(self._shape)) % num_episodes
        self._make_env = partial(environments.make_from_spec, dataset.spec, make_env)
        self._envs = [self._make_env()]

    def __call__(
        self,
        config: Any,
        state: Any,
        *,
        is_lost: np.ndarray | bool = False,
        tick: Callable[[], None] = lambda: None,
        later: int = 0,
    ) -> Rollouts:
        """Plays every episode to its end.

        Args:
          config: As for `learner.learn`.
          state: With axes as the evaluator's runs.
          is_lost: By run, those whose episodes are not to be played: their results are NaN.
          tick: Called after making and every reset, before every step of an environment and after
            choosing actions.
          later: Added to the seeds of the starts, for other episodes than those of every time.
        """
        is_lost = np.broadcast_to(is_lost, self._runs)
        if self._shape[:-1] == self._runs:
            return self._played(config, state, is_lost, tick, later)
        (num_runs,), (num_at_once, _) = self._runs, self._shape
        parts = []
        for start in range(0, num_runs, num_at_once):
            index = np.arange(start, start + num_at_once)
            of = partial(jax.tree.map, lambda x, i=index % num_runs: x[i] if np.ndim(x) else x)
            left_out = is_lost[index % num_runs] | (index >= num_runs)
            parts.append(self._played(of(config), of(state), left_out, tick, later))
        names = [field.name for field in dataclasses.fields(Rollouts)]
        whole = {n: np.concatenate([getattr(p, n) for p in parts])[:num_runs] for n in names}
        return Rollouts(**whole)

    def _played(
        self, config: Any, state: Any, is_lost: np.ndarray, tick: Callable[[], None], later: int
    ) -> Rollouts:
        """Of as many runs as there are environments for."""
        num_envs = len(self._seeds)
        while len(self._envs) < num_envs:
            self._envs.append(self._make_env())
            tick()
        is_lost = np.broadcast_to(is_lost[..., None], self._shape)
        observation = np.zeros((num_envs, self._spec.observation_size), np.float32)
        for i, (env, seed) in enumerate(zip(self._envs, self._seeds, strict=True)):
            observation[i] = self._flatten(env.reset(seed=int(seed) + later)[0])
            tick()
        start = observation.copy()

        episode_return, discounted_return, actual_value, length = np.zeros((4, num_envs))
        success = np.full(num_envs, np.nan)
        scale, bias = (float(x) for x in self._preprocessing[2:])
        running = ~is_lost.ravel()
        key, chunk = jax.random.key(int(self._seeds[0]) + later), []
        while running.any():
            if not chunk:
                keys = None
                if self._sampled:
                    step_key = jax.random.fold_in(key, int(length.max()))
                    keys = jax.random.split(step_key, self._shape[:-1])
                chunk = self._chunk(config, state, observation, keys)
                tick()
            actions = chunk.pop(0)
            for i in np.flatnonzero(running):
                tick()
                stepped, reward, terminated, truncated, info = self._envs[i].step(actions[i])
                observation[i] = self._flatten(stepped)
                weight = self._discount ** length[i]
                episode_return[i] += reward
                discounted_return[i] += weight * reward
                actual_value[i] += weight * (scale * reward + bias)
                length[i] += 1
                if "success" in info:
                    success[i] = np.fmax(success[i], float(info["success"]))
                running[i] = not (terminated or truncated)

        learned_value = np.full(num_envs, np.nan)
        if self._value is not None:
            value = self._value(config, state, self._preprocessing, self._batched(start))
            learned_value = np.asarray(value, np.float64)
        arrays = episode_return, discounted_return, length, success, learned_value, actual_value
        return Rollouts(*(np.where(is_lost, np.nan, x.reshape(self._shape)) for x in arrays))

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _flatten(self, observation: Any) -> np.ndarray:
        return environments.flatten_observation(observation, self._spec.observation_keys)

    def _batched(self, observation: np.ndarray) -> np.ndarray:
        return observation.reshape(*self._shape, -1)

    def _chunk(
        self, config: Any, state: Any, observation: np.ndarray, key: Key | None
    ) -> list[np.ndarray]:
        """The next h actions of every environment, one array per step."""
        batched = self._batched(observation)
        chunk = np.asarray(self._act(config, state, self._preprocessing, batched, key))
        steps = np.moveaxis(chunk, -2, 0)  # (h, *runs, episodes, A)
        return [to_environment(x.reshape(len(observation), -1), self._spec) for x in steps]


def summarize(rollouts: Rollouts, spec: Spec) -> dict[str, Any]:
    """A row of `evaluations.jsonl`: the means over episodes by seed, and every episode's return."""
    row = {
        "return": rollouts.episode_return.mean(-1),
        "discounted_return": rollouts.discounted_return.mean(-1),
        "length": rollouts.length.mean(-1),
        "episode_returns": rollouts.episode_return,
        "actual_value": rollouts.actual_value.mean(-1),
    }
    if spec.reference_scores is not None:
        row["score"] = scores.normalized_score(row["return"], spec.reference_scores)
    if not np.isnan(rollouts.success).all():
        row["success"] = rollouts.success.mean(-1)
    if not np.isnan(rollouts.learned_value).all():
        row["learned_value"] = rollouts.learned_value.mean(-1)
        row["value_error"] = rollouts.value_error.mean(-1)
    return {k: np.asarray(v).tolist() for k, v in row.items()}


def to_environment(action: np.ndarray, spec: Spec) -> np.ndarray:
    """Actions (*B, A) in [−1, 1] to the environment's own bounds, one-hot ones to indices (*B,)."""
    if spec.discrete:
        return action.argmax(-1)
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    return (low + 0.5 * (action + 1.0) * (high - low)).astype(np.float32)


@functools.cache  # JAX compiles every new function again
def _chunk_of_one(act: Callable) -> Callable:
    """`act` as an `Algorithm.chunk` with h = 1."""

    def chunk(
        config: Any, state: Any, observation: Float[Array, "B O"], key: Key | None
    ) -> Float[Array, "B 1 A"]:
        return act(config, state, observation, key)[:, None]

    return chunk


def _over_runs_and_episodes(function: Callable) -> Callable:
    """`function(config, state, observation, *rest)` as one compiled call on raw observations of
    (*runs, episodes, O), the rest of (*runs, ...) or None."""

    @jax.jit
    def batched(
        config: Any,
        state: Any,
        preprocessing: Preprocessing,
        observation: Float[Array, "*runs_and_episodes O"],
        *rest: Any,
    ) -> Float[Array, "..."]:
        observation = preprocessing.normalize(observation)
        return over_runs(function, observation.ndim - 2)(config, state, observation, *rest)

    return batched
