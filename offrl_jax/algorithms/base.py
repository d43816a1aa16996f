"""The contract of an algorithm: pure functions over a config, a state, a batch and a key."""

from collections.abc import Callable
from typing import NamedTuple


class Algorithm(NamedTuple):
    """What the learner, the rollouts and the command line need to know of an algorithm.

    Attributes:
      name: The name users type.
      Config: A `@config` class with at least `batch_size`; critics also have `discount`.
      init: (config, spec, key) -> state, a NamedTuple with at least `step`, an int32 scalar.
      update: (config, state, batch, key) -> (state, metrics); adds 1 to `state.step`.
      act: (config, state, observation, key | None) -> actions in [−1, 1] of a (B, O) batch of
        normalised observations; None asks for the mode.
      value: (config, state, observation) -> the critic's estimate (B,) of what acting from these
        observations returns, discounted, in transformed rewards; None without a critic.
      citation: The paper.
    """

    name: str
    Config: type
    init: Callable
    update: Callable
    act: Callable
    value: Callable | None
    citation: str
