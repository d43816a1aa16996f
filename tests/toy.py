"""A tiny environment with known rewards, and an algorithm that acts by a rule."""

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import config, setting
from offrl_jax.data import Dataset, dataset_from_arrays

ENV_ID, DISCRETE_ENV_ID = "OffrlToy-v0", "OffrlDiscreteToy-v0"
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)


class Toy(gymnasium.Env):
    """Observes (start, time); pays the first action; ends after 2 + (seed mod 3) steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(LOW, HIGH)
    steps = 0  # of all instances

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.time = seed, 0
        return np.array([seed, 0.0]), {}

    def step(self, action):
        assert self.time < 2 + self.start % 3, "stepped after its end"
        assert self.action_space.contains(action), action
        Toy.steps += 1
        self.time += 1
        terminated = self.time == 2 + self.start % 3
        info = {"success": self.time == 1 and self.start > 0}
        reward = float(np.ravel(action)[0])
        return np.array([self.start, self.time]), reward, terminated, False, info


class DiscreteToy(Toy):
    """Pays the index of the action."""

    action_space = gymnasium.spaces.Discrete(3)


for env_id, toy in ((ENV_ID, Toy), (DISCRETE_ENV_ID, DiscreteToy)):
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=toy, disable_env_checker=True, max_episode_steps=9)


@config
class RuleConfig:
    gain: float = setting(0.5, "the first action")
    batch_size: int = setting(4, "transitions a step", low=1)


class RuleState(NamedTuple):
    step: jax.Array
    offset: jax.Array
    unused: jax.Array


def init(config, spec, key):
    return RuleState(jnp.int32(0), jnp.zeros(()), jnp.ones(3))


def update(config, state, batch, key):
    return state._replace(step=state.step + 1), {"rule/loss": batch.reward.mean()}


def act(config, state, observation, key):
    first = jnp.full(observation.shape[0], config.gain) + state.offset
    return jnp.stack([first, jnp.tanh(observation[:, 0])], axis=1)


def value(config, state, observation):
    return jnp.full(observation.shape[0], 100.0)


rule = Algorithm("rule", RuleConfig, init, update, act, value, "none")


def toy_dataset(*, discrete: bool = False, **spec) -> Dataset:
    rng = np.random.default_rng(0)
    n = 60
    observation = np.stack([rng.integers(0, 9, n), rng.integers(0, 4, n)], 1).astype(float)
    action = rng.uniform(LOW, HIGH, (n, 2))
    actions = {"action_low": LOW, "action_high": HIGH, "env_id": ENV_ID}
    if discrete:
        action, actions = rng.integers(0, 3, n), {"num_actions": 3, "env_id": DISCRETE_ENV_ID}
    return dataset_from_arrays(
        observation,
        action,
        rng.normal(size=n),
        np.arange(1, n + 1) % 3 == 0,
        next_observation=rng.normal(size=(n, 2)),
        **actions | {"reference_scores": (0.0, 10.0), "name": "toy"} | spec,
    )
