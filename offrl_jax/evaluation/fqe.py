"""Fitted Q evaluation: what policies are worth judging by the data alone, all of them at once.

Source: Le et al. 2019, arXiv:1903.08738, algorithm 3; as a score to select by Paine et al. 2020,
arXiv:2007.09055. There is no maximum over actions and no conservatism in it. The estimate is as
good as the data's coverage of what the policy does: where the data do not go, it extrapolates.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.config import config, setting, validate
from offrl_jax.data.dataset import Dataset
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.modules import INITIALIZERS
from offrl_jax.networks.optimizers import Trainable, cosine_rate
from offrl_jax.types import Array, Float, InputError, Key, Transition

WATCHED = 1000.0  # steps over which the last errors and clipped targets are averaged


@config
class FQEConfig:
    """Settings of the evaluation, not of what is evaluated."""

    discount: float = setting(0.99, "γ of the estimated returns", low=0, high=0.9999)
    learning_rate: float = setting(3e-4, "Adam's, annealed to 0 by a cosine", low=0)
    target_update_rate: float = setting(0.05, "Polyak τ of the target networks", low=0, high=1)
    num_steps: int = setting(5000, "updates; several times as many extrapolate further", low=1)
    batch_size: int = setting(256, "transitions an update, the same ones for all policies", low=1)
    hidden_sizes: tuple[int, ...] = setting((128, 32), "the action enters at the last", low=1)
    num_networks: int = setting(4, "started apart, whose scores are averaged", low=1)


class Estimate(NamedTuple):
    """What P policies are worth.

    Attributes:
      score: mean_{s₀} Q_i(s₀, π_i(s₀)), discounted and beyond any time limit, in the rewards of the
        transitions that were given.
      spread: Standard deviation of the score over the networks; closer policies cannot be ranked.
      bellman_error: Root mean square of Q_i(s, a) − y_i in those units, a mean of the last steps.
      clipped: Share of the targets y_i that lay beyond what rewards can add up to, of the last
        steps. Some hundredths are usual where rewards are sparse and 0 is the least they add up
        to; with most of them the estimate is a bound, not a fit.
    """

    score: Float[Array, "P"]
    spread: Float[Array, "P"]
    bellman_error: Float[Array, "P"]
    clipped: Float[Array, "P"]


class QNetwork(nn.Module):
    """Q_h(s, a) of H policies as heads of one network, which the action enters at the last hidden
    layer, as in DDPG (arXiv:1509.02971).

    So what a state needs is computed once, however many actions it is asked for. Heads start at 0.
    """

    hidden_sizes: tuple[int, ...]
    num_heads: int

    @nn.compact
    def __call__(
        self, observation: Float[Array, "B O"], action: Float[Array, "B *H A"]
    ) -> Float[Array, "B H"]:
        """Every head's value of one action a state (B, A), or each head's of its own (B, H, A)."""
        dense = partial(nn.Dense, kernel_init=INITIALIZERS["torch"])
        *sizes, last = self.hidden_sizes
        x = observation
        for size in sizes:
            x = nn.relu(nn.LayerNorm()(dense(size)(x)))
        x = dense(last)(x)
        part = dense(last, use_bias=False)(action)
        heads = self.param("heads", nn.initializers.zeros, (last, self.num_heads))
        bias = self.param("bias", nn.initializers.zeros, (1, self.num_heads))
        if action.ndim == 2:
            return nn.relu(x + part) @ heads + bias
        return jnp.einsum("bhf,fh->bh", nn.relu(x[:, None] + part), heads) + bias


def initial_observations(dataset: Dataset) -> Float[Array, "M O"]:
    """The first of every episode."""
    rows = np.flatnonzero(np.diff(np.asarray(dataset.episode), prepend=-1))
    return dataset.transitions.observation[rows]


def reachable(reward: Float[Array, "N"], discount: float) -> tuple[Array, Array]:
    """The least and the greatest discounted sum of such rewards, of episodes of any length."""
    low, high, horizon = jnp.min(reward), jnp.max(reward), 1.0 / (1.0 - discount)
    return jnp.minimum(low, low * horizon), jnp.maximum(high, high * horizon)


def fit(
    config: FQEConfig,
    transitions: Transition,
    initial_observation: Float[Array, "M O"],
    next_actions: Float[Array, "P N A"],
    initial_actions: Float[Array, "P M A"],
    key: Key,
    *,
    reward_range: tuple[float, float] | None = None,
) -> Estimate:
    """Evaluates P deterministic policies in one compiled scan, each update on one batch for all.

    L = Σ_i mean_b ( Q_i(s, a) − y_i )²,  y_i = clip( r + γ (1 − d) Q̄_i(s′, π_i(s′)) ),  d = 1 at
    true ends only; for each network, to its own targets

    The policies' Q are heads of one network. So only π_i(s′) multiplies, at the last hidden layer,
    and P policies cost little more than one; and they share its errors, which a ranking therefore
    sees less of than of networks of their own. A policy's estimate depends, a little, on which
    others it is judged beside. Several such networks, which differ in where they start, are
    averaged: single ones rank differently from start to start.

    Q is m + σ f, with m and σ the mean and standard deviation of the data's returns-to-go: f has
    the same size whatever the rewards', and starts at 0, the data's own value. Targets are clipped
    to what such rewards can add up to, which holds an evaluation in place that would diverge.

    Args:
      config: See `FQEConfig`.
      transitions: (N, ...), the observations standardised, the returns-to-go of γ = `discount`.
      initial_observation: In the same units, from `initial_observations`.
      next_actions: π_i(s′) for every transition, in [−1, 1].
      initial_actions: π_i(s₀).
      key: Of the network's start and the batches.
      reward_range: The least and the greatest reward that the clipping reckons with; by default
        of `transitions`. Give all data's where these are a sample of them, which may lack the few
        rewards that matter.

    Raises:
      InputError: if a setting is out of range, the actions' shapes do not fit the observations', or
        rewards lie outside `reward_range`.
    """
    validate(config)
    num_policies, *rest = next_actions.shape
    wanted = [*transitions.action.shape]
    wanted_initial = [num_policies, len(initial_observation), wanted[-1]]
    if rest != wanted or [*initial_actions.shape] != wanted_initial:
        raise InputError(
            f"next_actions of shape {next_actions.shape} and initial_actions of "
            f"{initial_actions.shape} do not fit; {(num_policies, *wanted)} and "
            f"{tuple(wanted_initial)} would"
        )
    seen = float(jnp.min(transitions.reward)), float(jnp.max(transitions.reward))
    low, high = reward_range or seen
    if not low <= seen[0] <= seen[1] <= high:
        raise InputError(
            f"reward_range={reward_range} leaves out rewards, which lie between {seen[0]:g} and "
            f"{seen[1]:g}; give the least and the greatest of all data"
        )
    ends = jnp.array([low, high])
    return _fit(config, transitions, initial_observation, next_actions, initial_actions, ends, key)


@jax.jit
def _fit(
    config: FQEConfig,
    transitions: Transition,
    initial_observation: Array,
    next_actions: Array,
    initial_actions: Array,
    reward_range: Array,
    key: Key,
) -> Estimate:
    num_policies = len(next_actions)
    network = QNetwork(tuple(config.hidden_sizes), num_policies)
    mean, std = jnp.mean(transitions.return_to_go), jnp.std(transitions.return_to_go)
    std = jnp.where(std > 1e-6 * (1.0 + jnp.abs(mean)), std, 1.0)
    low, high = reachable(reward_range, config.discount)

    def q_values(params: Any, observation: Array, action: Array) -> Float[Array, "E P B"]:
        f = jax.vmap(network.apply, (0, None, None))(params, observation, action)
        return mean + std * f.swapaxes(1, 2)

    next_actions = next_actions.swapaxes(0, 1)  # a row's actions lie together
    start_key, batch_key = jax.random.split(key)
    params = jax.vmap(network.init, (0, None, None))(
        jax.random.split(start_key, config.num_networks),
        transitions.observation[:1],
        transitions.action[:1],
    )
    target_of = partial(td_target, discount=config.discount)
    targets = jax.vmap(jax.vmap(target_of, (None, None, 0)), (None, None, 0))

    def update(carry: tuple, step: Array) -> tuple[tuple, None]:
        critic, target_critic, watched = carry
        sample_key = jax.random.fold_in(batch_key, step)
        index = jax.random.randint(sample_key, (config.batch_size,), 0, len(transitions.reward))
        batch = jax.tree.map(lambda x: x[index], transitions)
        next_q = q_values(target_critic, batch.next_observation, next_actions[index])
        y = targets(batch.reward, batch.terminal, next_q)

        def loss(params: Any) -> tuple[Array, Array]:
            q = q_values(params, batch.observation, batch.action)
            error = jnp.mean(jnp.square((q - jnp.clip(y, low, high)) / std), axis=2)
            return jnp.sum(error), error

        rate = cosine_rate(config.learning_rate, step, config.num_steps)
        critic, error = critic.minimize(loss, rate)
        target_critic = polyak(target_critic, critic.params, config.target_update_rate)
        is_beyond = jnp.mean(((y < low) | (y > high)).astype(jnp.float32), axis=2)
        watched = polyak(watched, (error, is_beyond), jnp.maximum(1.0 / WATCHED, 1.0 / (step + 1)))
        return (critic, target_critic, watched), None

    nothing = jnp.zeros((2, config.num_networks, num_policies))
    carry = Trainable.create(params), params, (nothing[0], nothing[1])
    (critic, _, watched), _ = jax.lax.scan(update, carry, jnp.arange(config.num_steps))
    error, clipped = (jnp.mean(x, axis=0) for x in watched)
    initial_q = q_values(critic.params, initial_observation, initial_actions.swapaxes(0, 1))
    scores = jnp.mean(initial_q, axis=2)
    return Estimate(
        jnp.mean(scores, axis=0), jnp.std(scores, axis=0), std * jnp.sqrt(error), clipped
    )
