"""Data from an MDP, and what data say of the MDP and of the policy that drew them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.tabular.mdp import MDP
from offrl_jax.types import Array, Bool, Float, Int, Key, Scalar


class Transitions(NamedTuple):
    """N transitions between states and actions that are indices.

    Attributes:
      state: In 0 … S − 1.
      action: In 0 … A − 1.
      reward: r.
      next_state: In 0 … S − 1, of no meaning where the episode ends.
      terminal: Whether the episode ends here, truly: time limits are no ends.
      last: Whether the next row belongs to another episode.
    """

    state: Int[Array, "N"]
    action: Int[Array, "N"]
    reward: Float[Array, "N"]
    next_state: Int[Array, "N"]
    terminal: Bool[Array, "N"]
    last: Bool[Array, "N"]


def _step(mdp: MDP, state: Array, action: Array, key: Key) -> tuple[Array, Array, Array]:
    """r, s' and d of one transition."""
    end_key, next_key = jax.random.split(key)
    terminal = jax.random.bernoulli(end_key, mdp.terminal[state, action])
    next_state = jax.random.categorical(next_key, jnp.log(mdp.transition[state, action]))
    return mdp.reward[state, action], next_state, terminal


@partial(jax.jit, static_argnames="num")
def sample_episodes(
    mdp: MDP,
    policy: Float[Array, "S A"],
    key: Key,
    *,
    num: int,
    max_episode_steps: int | Int[Array, ""],
) -> Transitions:
    """`num` transitions of episodes one after another, the last of them cut off where they stop.

    An episode starts from the initial distribution and goes on until it ends or the time limit.
    Rewards are the expected ones.
    """

    def step(carry, key):
        state, age = carry
        action_key, step_key, start_key = jax.random.split(key, 3)
        action = jax.random.categorical(action_key, jnp.log(policy[state]))
        reward, next_state, terminal = _step(mdp, state, action, step_key)
        last = terminal | (age + 1 >= max_episode_steps)
        start = jax.random.categorical(start_key, jnp.log(mdp.initial))
        row = Transitions(state, action, reward, next_state, terminal, last)
        return (jnp.where(last, start, next_state), jnp.where(last, 0, age + 1)), row

    start_key, rest = jax.random.split(key)
    start = jax.random.categorical(start_key, jnp.log(mdp.initial))
    _, rows = jax.lax.scan(step, (start, 0), jax.random.split(rest, num))
    return rows._replace(last=rows.last.at[-1].set(True))


@partial(jax.jit, static_argnames="num")
def sample_pairs(mdp: MDP, distribution: Float[Array, "S A"], key: Key, *, num: int) -> Transitions:
    """`num` independent transitions from (s, a) of the given distribution, which need not sum to 1.

    Such as `visitation(mdp, policy)[:, None] * policy`, or ones for uniform data.
    """
    pair_key, rest = jax.random.split(key)
    pair = jax.random.categorical(pair_key, jnp.log(distribution.ravel()), shape=(num,))
    state, action = jnp.divmod(pair, mdp.num_actions)
    step = jax.vmap(_step, in_axes=(None, 0, 0, 0))
    reward, next_state, terminal = step(mdp, state, action, jax.random.split(rest, num))
    return Transitions(state, action, reward, next_state, terminal, jnp.full(num, True))


def count_pairs(transitions: Transitions, num_states: int, num_actions: int) -> Array:
    """N(s, a), a float table (S, A)."""
    table = jnp.zeros((num_states, num_actions))
    return table.at[transitions.state, transitions.action].add(1)


def behavior_policy(count: Float[Array, "S A"], prior_count: Scalar = 0.0) -> Float[Array, "S A"]:
    """β̂(a|s) = ( N(s, a) + n₀ ) / Σ_b ( N(s, b) + n₀ ): the likeliest policy if n₀ = 0.

    Uniform in states without data. A prior count n₀ > 0 makes every action possible, which the
    conservative fixed points ask for.
    """
    count = count + prior_count
    total = jnp.sum(count, axis=-1, keepdims=True)
    return jnp.where(total > 0, count / jnp.maximum(total, 1e-12), 1 / count.shape[-1])


@partial(jax.jit, static_argnames="num_actions")
def empirical_mdp(
    transitions: Transitions,
    *,
    num_actions: int,
    initial: Float[Array, "S"],
    discount: Scalar,
    unseen_value: Scalar,
) -> MDP:
    """The MDP whose probabilities and rewards are the data's frequencies and means.

    A pair (s, a) that the data do not have ends the episode with reward `unseen_value`, so that
    every policy's Q is that number there: 0 for nothing known, r_max / (1 − γ) for optimism.
    """
    num_states = len(initial)
    at = transitions.state, transitions.action
    count = count_pairs(transitions, num_states, num_actions)
    going_on = jnp.zeros((num_states, num_actions, num_states))
    going_on = going_on.at[(*at, transitions.next_state)].add(~transitions.terminal)
    staying = jnp.sum(going_on, axis=-1)
    reward = jnp.zeros_like(count).at[at].add(transitions.reward) / jnp.maximum(count, 1)
    itself = jnp.broadcast_to(jnp.eye(num_states)[:, None], going_on.shape)
    return MDP(
        transition=jnp.where(
            staying[..., None] > 0, going_on / jnp.maximum(staying, 1)[..., None], itself
        ),
        reward=jnp.where(count > 0, reward, unseen_value),
        terminal=jnp.where(count > 0, 1 - staying / jnp.maximum(count, 1), 1.0),
        initial=initial,
        discount=jnp.asarray(discount, float),
    )
