"""The whole loop in one program: many worlds side by side, many seeds side by side."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.config import validate
from offrl_jax.safety import learning, worlds
from offrl_jax.safety.learning import SafetyState
from offrl_jax.safety.rollout import Rollout
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.safety.shield import Choice
from offrl_jax.safety.worlds import TrapTask, World
from offrl_jax.types import Array, Float, Key, Metrics


class Session(NamedTuple):
    """Training as it stands.

    Attributes:
      state: What is learned.
      worlds: N of them.
      episode_return: Of each one's episode so far.
      is_first: 1 where it has just begun.
    """

    state: SafetyState
    worlds: World
    episode_return: Float[Array, "N"]
    is_first: Float[Array, "N"]


def start(config: SafetyConfig, task: TrapTask, keys: Key) -> tuple[Session, Metrics]:
    """Sessions of S seeds, with random rows where the method has a critic, and the accidents that
    those took, "episodes/accidents" (S,).

    Raises:
      InputError: if a setting is not one, or the buffer too small.
    """
    validate(config)
    return _starts(config, task, keys)


@partial(jax.jit, static_argnames="task")
def _starts(config: SafetyConfig, task: TrapTask, keys: Key) -> tuple[Session, Metrics]:
    return jax.vmap(partial(_start, config, task))(keys)


@partial(jax.jit, static_argnames=("task", "num_iterations"), donate_argnames="session")
def train(
    config: SafetyConfig, task: TrapTask, session: Session, keys: Key, *, num_iterations: int
) -> tuple[Session, Metrics]:
    """So many iterations of every seed in one dispatch.

    Args:
      config: The settings, shared by all seeds.
      task: The worlds' layout.
      session: From `start`; donated.
      keys: One a seed, as for `start`. Iterations fold their number into it, so that 20 and 30
        are 50.
      num_iterations: Of collection and update.

    Returns:
      The sessions, and what each iteration measured, (S, iterations).
    """
    return jax.vmap(partial(_train, config, task, num_iterations))(session, keys)


@partial(jax.jit, static_argnames=("task", "num_episodes"))
def evaluate(
    config: SafetyConfig, task: TrapTask, state: SafetyState, keys: Key, *, num_episodes: int
) -> Metrics:
    """Episodes of every seed's policy, which acts by its mode, through the shield if it has one:
    mean return, and the shares that ended in an accident or at the goal, (S,)."""
    return jax.vmap(partial(_evaluate, config, task, num_episodes))(state, keys)


def _key_of(phase: str, key: Key) -> Key:
    """The phase's own of a seed's key, which all three are given."""
    return jax.random.split(key, 3)[("start", "train", "evaluate").index(phase)]


def _start(config: SafetyConfig, task: TrapTask, key: Key) -> tuple[Session, Metrics]:
    init_key, reset_key, scatter_key, random_key, critic_key = jax.random.split(
        _key_of("start", key), 5
    )
    state = learning.init(config, task.spec, init_key)
    accidents = jnp.zeros(())
    if learning.uses_critic(config):
        num = -(-config.num_random_transitions // config.num_world_steps)
        session = _fresh(worlds.scattered, task, state, scatter_key, num)
        _, rollout = _collect(
            config, task, learning.act_at_random, session, random_key, worlds.scattered
        )
        state = learning.pretrained(config, state, rollout, critic_key)
        accidents = jnp.sum(rollout.cost)
    session = _fresh(worlds.reset, task, state, reset_key, config.num_worlds)
    return session, {"episodes/accidents": accidents}


def _fresh(
    reset: Callable, task: TrapTask, state: SafetyState, key: Key, num_worlds: int
) -> Session:
    fresh = jax.vmap(partial(reset, task))(jax.random.split(key, num_worlds))
    return Session(state, fresh, jnp.zeros(num_worlds), jnp.ones(num_worlds))


def _train(
    config: SafetyConfig, task: TrapTask, num_iterations: int, session: Session, key: Key
) -> tuple[Session, Metrics]:
    train_key = _key_of("train", key)

    def iteration(session: Session, _: None) -> tuple[Session, Metrics]:
        step_key = jax.random.fold_in(train_key, session.state.step)
        collect_key, update_key = jax.random.split(step_key)
        session, rollout = _collect(config, task, learning.act, session, collect_key)
        state, metrics = learning.update(config, session.state, rollout, update_key)
        return session._replace(state=state), metrics

    return jax.lax.scan(iteration, session, None, length=num_iterations)


def _collect(
    config: SafetyConfig,
    task: TrapTask,
    act: learning.Actor,
    session: Session,
    key: Key,
    reset: Callable = worlds.reset,
) -> tuple[Session, Rollout]:
    """`num_world_steps` of every world, which starts anew where an episode ends."""

    def step(carry: tuple, key: Key) -> tuple[tuple, Rollout]:
        now, episode_return, is_first = carry
        act_key, step_key, reset_key = jax.random.split(key, 3)
        observation = jax.vmap(partial(worlds.observe, task))(now)
        choice = act(config, session.state, observation, act_key)
        after = _steps(task, now, choice, step_key)
        episode_return = episode_return + after.reward
        end = jnp.maximum(after.terminal, after.truncation)
        row = Rollout(
            observation=observation,
            action=choice.action,
            reward=after.reward,
            cost=after.cost,
            next_observation=jax.vmap(partial(worlds.observe, task))(after.world),
            terminal=after.terminal,
            truncation=after.truncation,
            is_first=is_first,
            episode_return=episode_return,
            is_fallback=choice.is_fallback,
            num_refused=choice.num_refused,
        )
        fresh = jax.vmap(partial(reset, task))(jax.random.split(reset_key, end.shape[0]))
        now = jax.tree.map(
            lambda new, old: jnp.where(end.reshape(-1, *(1,) * (old.ndim - 1)) > 0, new, old),
            fresh,
            after.world,
        )
        return (now, episode_return * (1.0 - end), end), row

    carry = session.worlds, session.episode_return, session.is_first
    keys = jax.random.split(key, config.num_world_steps)
    carry, rollout = jax.lax.scan(step, carry, keys)
    return Session(session.state, *carry), rollout


def _evaluate(
    config: SafetyConfig, task: TrapTask, num_episodes: int, state: SafetyState, key: Key
) -> Metrics:
    def step(carry: tuple, key: Key) -> tuple[tuple, None]:
        now, running, totals = carry
        act_key, step_key = jax.random.split(key)
        observation = jax.vmap(partial(worlds.observe, task))(now)
        choice = learning.act(config, state, observation, act_key, mode_first=True)
        after = _steps(task, now, choice, step_key)
        found = jnp.stack([after.reward, after.cost, after.terminal - after.cost])
        running_after = running * (1.0 - after.terminal)
        return (after.world, running_after, totals + found * running[None]), None

    reset_key, key = jax.random.split(_key_of("evaluate", key))
    now = jax.vmap(partial(worlds.reset, task))(jax.random.split(reset_key, num_episodes))
    carry = now, jnp.ones(num_episodes), jnp.zeros((3, num_episodes))
    (_, _, totals), _ = jax.lax.scan(step, carry, jax.random.split(key, task.max_episode_steps))
    names = "return", "accidents", "goals"
    return dict(zip(names, jnp.mean(totals, axis=1), strict=True))


def _steps(task: TrapTask, now: World, choice: Choice, key: Key) -> worlds.Step:
    keys = jax.random.split(key, choice.action.shape[0])
    return jax.vmap(partial(worlds.step, task))(now, choice.action, keys)
