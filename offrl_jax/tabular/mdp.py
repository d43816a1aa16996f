"""Finite Markov decision processes as arrays; policies are tables (S, A) whose rows sum to 1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.types import Array, Float, InputError, Key, Scalar


class MDP(NamedTuple):
    """A finite Markov decision process of S states and A actions. A pytree: `vmap` takes batches.

    A transition ends the episode with probability `terminal`; only if it does not is s' drawn. A
    state that ends the episode whatever one does has terminal = 1 and any successor, say itself;
    there Q = r.

    Attributes:
      transition: P(s' | s, a, the episode goes on); rows sum to 1, also where it never goes on.
      reward: Expected r(s, a), for transitions that end the episode too.
      terminal: Probability in [0, 1] that the episode ends at (s, a).
      initial: Distribution of the first state.
      discount: γ in [0, 1).
    """

    transition: Float[Array, "S A S"]
    reward: Float[Array, "S A"]
    terminal: Float[Array, "S A"]
    initial: Float[Array, "S"]
    discount: Scalar

    @property
    def num_states(self) -> int:
        return self.reward.shape[-2]

    @property
    def num_actions(self) -> int:
        return self.reward.shape[-1]

    def successors(self) -> Float[Array, "S A S"]:
        """(1 − d(s, a)) P(s' | s, a): rows sum to the probability that the episode goes on."""
        return (1 - self.terminal)[..., None] * self.transition


def check(mdp: MDP) -> MDP:
    """The MDP itself, for one written by hand; not for use under `jit`.

    Raises:
      InputError: If shapes disagree, a row is no distribution or a number is out of its range.
    """
    states, actions = np.shape(mdp.reward)
    shapes = {
        "transition": (states, actions, states),
        "terminal": (states, actions),
        "initial": (states,),
    }
    for name, shape in shapes.items():
        if np.shape(getattr(mdp, name)) != shape:
            raise InputError(
                f"{name} has shape {np.shape(getattr(mdp, name))} where the reward's {states} "
                f"states and {actions} actions ask for {shape}; give it that shape"
            )
    for name in ("transition", "initial"):
        table = np.asarray(getattr(mdp, name))
        if not (np.all(table >= 0) and np.allclose(table.sum(-1), 1, atol=1e-4)):
            raise InputError(
                f"{name} has a row that is no distribution; make its entries non-negative with sum "
                "1, and say in terminal where episodes end"
            )
    if not (np.all(np.asarray(mdp.terminal) >= 0) and np.all(np.asarray(mdp.terminal) <= 1)):
        raise InputError("terminal has entries outside [0, 1]; give probabilities")
    if not 0 <= mdp.discount < 1:
        raise InputError(f"the discount is {mdp.discount}; give one in [0, 1)")
    return mdp


def random_mdp(
    key: Key,
    num_states: int,
    num_actions: int,
    *,
    discount: Scalar,
    branching: int | None = None,
    terminal_probability: Scalar = 0.0,
) -> MDP:
    """A Garnet: random successors with random probabilities, rewards from N(0, 1).

    Each (s, a) has `branching` successors (all S if None), drawn without replacement, whose
    probabilities are a uniform draw from the simplex; every transition ends the episode with
    `terminal_probability`; the first state is uniform. `vmap` over keys makes a batch.

    Source: Bhatnagar et al. 2009, Automatica 45, section 7 (GARNET).

    Raises:
      InputError: If there are more successors than states, or none.
    """
    branching = num_states if branching is None else branching
    if not 1 <= branching <= num_states:
        raise InputError(f"branching is {branching} of {num_states} states; give 1 to {num_states}")
    order_key, weight_key, reward_key = jax.random.split(key, 3)
    shape = (num_states, num_actions)
    order = jnp.argsort(jax.random.uniform(order_key, (*shape, num_states)), axis=-1)
    weight = jax.random.exponential(weight_key, (*shape, num_states)) * (order < branching)
    return MDP(
        transition=weight / jnp.sum(weight, axis=-1, keepdims=True),
        reward=jax.random.normal(reward_key, shape),
        terminal=jnp.full(shape, terminal_probability, float),
        initial=jnp.full(num_states, 1 / num_states),
        discount=jnp.asarray(discount, float),
    )


def uniform_policy(mdp: MDP) -> Float[Array, "S A"]:
    """π(a|s) = 1 / A."""
    return jnp.full_like(mdp.reward, 1 / mdp.num_actions)
