"""Acting by the critic alone: for any learner with one, QT-Opt's rule in place of its policy."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import cross_entropy_method
from offrl_jax.types import Array, Float, InputError, Key

REDUCTIONS = {"min": jnp.min, "mean": jnp.mean}


@cache  # a new function of the same rule would be compiled anew
def by_cross_entropy(
    algorithm: Algorithm,
    *,
    over_critics: str = "min",
    num_samples: int = 64,
    num_elites: int = 6,
    num_rounds: int = 2,
) -> Algorithm:
    """The algorithm with the same states, whose `act` is argmax_a min_k Q_k(s, a) by the
    cross-entropy method, and whose `value` is what it found there.

    It goes wherever an algorithm does: `Evaluator`, `runs.load.Trained`, `diagnostics`. Its
    policies are not saved under the learner's name, which acts otherwise.

    Args:
      algorithm: One with `q_values`.
      over_critics: "min" over the critics k, or their "mean".
      num_samples: M of `cross_entropy_method.maximize`, as the others.
      num_elites: m.
      num_rounds: Rounds.

    Raises:
      InputError: if the algorithm has no critic of actions, or a setting is out of range; when
        acting, if its actions are discrete.

    Source: Kalashnikov et al. 2018 (QT-Opt), arXiv:1806.10293.
    """
    if algorithm.q_values is None:
        raise InputError(f"{algorithm.name} has no critic of actions to maximise; take another")
    if over_critics not in REDUCTIONS:
        raise InputError(f"over_critics={over_critics!r} is not one of {', '.join(REDUCTIONS)}")
    cross_entropy_method.check_numbers(num_samples, num_elites, num_rounds)

    def best(
        config: Any, state: Any, observation: Float[Array, "B O"], key: Key | None
    ) -> tuple[Float[Array, "B A"], Float[Array, "B"]]:
        if algorithm.discrete(config):
            raise InputError(
                f"the cross-entropy method searches continuous actions; {algorithm.name}'s are "
                "discrete, and it takes the best of them as it is"
            )

        def score(action: Float[Array, "B M A"]) -> Float[Array, "B M"]:
            q = algorithm.q_values(config, state, observation, action)
            return REDUCTIONS[over_critics](q, axis=0)

        start = jnp.zeros(jax.eval_shape(algorithm.act, config, state, observation, None).shape)
        return cross_entropy_method.maximize(
            score,
            start,
            key,
            num_samples=num_samples,
            num_elites=num_elites,
            num_rounds=num_rounds,
        )

    def act(
        config: Any, state: Any, observation: Float[Array, "B O"], key: Key | None
    ) -> Float[Array, "B A"]:
        return best(config, state, observation, key)[0]

    def value(config: Any, state: Any, observation: Float[Array, "B O"]) -> Float[Array, "B"]:
        return best(config, state, observation, None)[1]

    return algorithm._replace(name=f"{algorithm.name}_by_cross_entropy", act=act, value=value)
