"""What a policy did in N worlds side by side, and its episodes' metrics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.safety.replay import Experience
from offrl_jax.types import Array, Bool, Float, Int, Metrics


class Rollout(NamedTuple):
    """T steps of N worlds.

    Attributes:
      observation: Before the action.
      action: As drawn, beyond [−1, 1] too; worlds clip it.
      reward: Of the task.
      cost: 1 at accidents.
      next_observation: After the action and before any reset.
      terminal: 1 at true ends, accidents among them.
      truncation: 1 at time-outs.
      is_first: 1 at the first step of an episode.
      episode_return: Sum of the episode's rewards so far.
      is_fallback: Whether the shield found no action that is safe enough.
      num_refused: Actions that the shield refused at this step.
    """

    observation: Float[Array, "T N O"]
    action: Float[Array, "T N A"]
    reward: Float[Array, "T N"]
    cost: Float[Array, "T N"]
    next_observation: Float[Array, "T N O"]
    terminal: Float[Array, "T N"]
    truncation: Float[Array, "T N"]
    is_first: Float[Array, "T N"]
    episode_return: Float[Array, "T N"]
    is_fallback: Bool[Array, "T N"]
    num_refused: Int[Array, "T N"]

    @property
    def end(self) -> Float[Array, "T N"]:
        return jnp.maximum(self.terminal, self.truncation)

    def experience(self) -> Experience:
        """Its transitions for the accident critic, (T N, ...)."""
        rows = Experience(
            self.observation,
            jnp.clip(self.action, -1.0, 1.0),
            self.next_observation,
            self.cost,
            self.terminal,
        )
        return jax.tree.map(flat, rows)


def episode_metrics(rollout: Rollout) -> Metrics:
    """Number, return and ends of the finished episodes, and the shield's part in the steps."""
    num = jnp.sum(rollout.end)
    return {
        "episodes/num": num,
        "episodes/accidents": jnp.sum(rollout.cost),
        "episodes/return": jnp.sum(rollout.end * rollout.episode_return) / num,  # NaN without any
        "episodes/goals": jnp.sum(rollout.terminal - rollout.cost),
        "shield/fallback": jnp.mean(rollout.is_fallback),
        "shield/refused": jnp.mean(rollout.num_refused),
    }


def flat(x: Float[Array, "T N ..."]) -> Float[Array, "B ..."]:
    """Steps and worlds on one axis."""
    return x.reshape(-1, *x.shape[2:])
