"""Worlds and simulators through Gymnasium: our worlds as its environments, and its environments'
collection for our updates. Imported only where one is needed."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax import environments
from offrl_jax.evaluation.rollouts import to_environment
from offrl_jax.safety import learning, worlds
from offrl_jax.safety.learning import SafetyState
from offrl_jax.safety.rendering import rendered
from offrl_jax.safety.rollout import Rollout
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import InputError, Key, Metrics, Spec


def gymnasium_world(task_name: str, render_mode: str | None = None) -> Any:
    """A task of `worlds.TASKS` as a Gymnasium environment: info has "cost" and "success";
    `render_mode="rgb_array"` gives pictures.

    Raises:
      InputError: if there is no such task or such pictures, or Gymnasium is missing; or at `step`
        and `render` before the first `reset`.
    """
    task = worlds.find_task(task_name)
    if render_mode not in (None, "rgb_array"):
        raise InputError(f'render_mode={render_mode!r} is unknown; give "rgb_array" or None')
    try:
        import gymnasium
    except ImportError as error:
        raise InputError("environments need gymnasium; pip install gymnasium") from error
    reset, step, observe = (
        jax.jit(partial(function, task)) for function in (worlds.reset, worlds.step, worlds.observe)
    )
    box = partial(gymnasium.spaces.Box, dtype=np.float32)

    class TrapWorld(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / worlds.STEP)}  # noqa: RUF012
        observation_space = box(-np.inf, np.inf, (task.spec.observation_size,))
        action_space = box(-1.0, 1.0, (task.spec.action_size,))

        def __init__(self) -> None:
            self.render_mode, self.world = render_mode, None

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
            super().reset(seed=seed)
            self.world = reset(self._key())
            return self._seen(), {"cost": 0.0, "success": False}

        def step(self, action: np.ndarray) -> tuple:
            found = step(self._begun(), jnp.asarray(action, jnp.float32), self._key())
            self.world = found.world
            cost, terminal = bool(found.cost), bool(found.terminal)
            info = {"cost": float(cost), "success": terminal and not cost}
            return self._seen(), float(found.reward), terminal, bool(found.truncation), info

        def render(self) -> np.ndarray | None:
            return rendered(task, self._begun()) if self.render_mode == "rgb_array" else None

        def _begun(self) -> worlds.World:
            if self.world is None:
                raise InputError("the world has no episode yet; call reset first")
            return self.world

        def _seen(self) -> np.ndarray:
            return np.asarray(observe(self.world))

        def _key(self) -> Key:
            return jax.random.key(int(self.np_random.integers(2**32)))

    return TrapWorld()


class HostWorlds:
    """N copies of a registered environment with Gymnasium's vectors, for the updates of `learning`.

    What ends an episode early is its accident: of Hopper and Walker, the fall.
    """

    def __init__(self, env_id: str, num_worlds: int, seed: int = 0, **env_kwargs: Any):
        """Raises InputError if the environment is unknown, or its actions are not bounded or its
        observations or actions not flat."""
        from gymnasium.vector import AutoresetMode, SyncVectorEnv

        one = environments.make(env_id, env_kwargs)
        low, high = (
            np.atleast_1d(getattr(one.action_space, end, np.nan)) for end in ("low", "high")
        )
        is_flat = low.ndim == 1 and len(one.observation_space.shape or ()) == 1
        if not is_flat or not np.isfinite([low, high]).all():
            one.close()
            raise InputError(f"{env_id} has no flat observations or no bounded, flat actions")
        sizes = one.observation_space.shape[0], low.shape[0]
        self.spec = Spec(*sizes, tuple(low.tolist()), tuple(high.tolist()), name=env_id)
        one.close()
        make = partial(environments.make, env_id, env_kwargs)
        self._envs = SyncVectorEnv([make] * num_worlds, autoreset_mode=AutoresetMode.SAME_STEP)
        self.num_worlds = num_worlds
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begins new episodes in all copies."""
        self._observation = self._envs.reset(seed=seed)[0].astype(np.float32)
        self._is_first = np.ones(self.num_worlds, np.float32)
        self._return = np.zeros(self.num_worlds, np.float32)

    def collect(
        self,
        config: SafetyConfig,
        state: SafetyState,
        key: Key,
        act: learning.Actor = learning.act,
    ) -> Rollout:
        """`num_world_steps` of every copy, as `training` collects them of worlds in JAX."""
        rows = []
        for step_key in jax.random.split(key, config.num_world_steps):
            seen = self._observation
            choice = _chosen(act, config, state, jnp.asarray(seen), step_key)
            unit = np.clip(np.asarray(choice.action), -1.0, 1.0)
            stepped = self._envs.step(to_environment(unit, self.spec))
            observation, reward, terminal, truncation, info = stepped
            end = terminal | truncation
            after = observation.copy()
            if end.any():
                last = info["final_obs"]
                after[end] = np.stack([last[i] for i in np.flatnonzero(end)])
            self._return = self._return + reward.astype(np.float32)
            row = Rollout(
                observation=seen,
                action=choice.action,
                reward=reward,
                cost=terminal,
                next_observation=after,
                terminal=terminal,
                truncation=truncation & ~terminal,
                is_first=self._is_first,
                episode_return=self._return,
                is_fallback=choice.is_fallback,
                num_refused=choice.num_refused,
            )
            rows.append(row)
            self._observation = observation.astype(np.float32)
            self._is_first = end.astype(np.float32)
            self._return = self._return * (1.0 - self._is_first)
        arrays = [np.stack([np.asarray(x) for x in column]) for column in zip(*rows, strict=True)]
        floats = [jnp.asarray(x, jnp.float32) for x in arrays[:9]]
        return Rollout(*floats, *map(jnp.asarray, arrays[9:]))

    def close(self) -> None:
        self._envs.close()


_chosen = jax.jit(
    lambda act, config, state, observation, key: act(config, state, observation, key),
    static_argnums=0,
)
_updated = jax.jit(learning.update)
_prepared = jax.jit(learning.pretrained)


def start_on_host(config: SafetyConfig, envs: HostWorlds, key: Key) -> tuple[SafetyState, Metrics]:
    """A fresh state, with random rows where the method has a critic, and the accidents that those
    took, "episodes/accidents"; what follows begins with new episodes."""
    init_key, random_key, critic_key = jax.random.split(key, 3)
    state = jax.jit(learning.init, static_argnames="spec")(config, envs.spec, init_key)
    accidents = jnp.zeros(())
    if learning.uses_critic(config):
        num_steps = -(-config.num_random_transitions // envs.num_worlds)
        of_random = dataclasses.replace(config, num_world_steps=num_steps)
        rollout = envs.collect(of_random, state, random_key, learning.act_at_random)
        state = _prepared(config, state, rollout, critic_key)
        accidents = jnp.sum(rollout.cost)
        envs.reset()
    return state, {"episodes/accidents": accidents}


def train_on_host(
    config: SafetyConfig, envs: HostWorlds, state: SafetyState, key: Key, *, num_iterations: int
) -> tuple[SafetyState, list[dict[str, np.ndarray]]]:
    """So many iterations of one seed: as `training.train`, but that simulators step on the host."""
    found = []
    for _ in range(num_iterations):
        collect_key, update_key = jax.random.split(jax.random.fold_in(key, state.step))
        rollout = envs.collect(config, state, collect_key)
        state, metrics = _updated(config, state, rollout, update_key)
        found.append(jax.tree.map(np.asarray, metrics))
    return state, found
