"""The cross-entropy method: maximises a function of actions without its gradient.

Source: Rubinstein and Kroese 2004, as used in QT-Opt, Kalashnikov et al. 2018, arXiv:1806.10293.
Checked against: the authors' code (google-research/tensor2robot at 034f49c, policies/policies.py),
whose samples are not clipped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.common.best_of_n import sample_noise
from offrl_jax.types import Array, Float, InputError, Key


def maximize(
    score: Callable,
    start: Float[Array, "B A"],
    key: Key | None,
    *,
    num_samples: int = 64,
    num_elites: int = 6,
    num_rounds: int = 2,
) -> tuple[Float[Array, "B A"], Float[Array, "B"]]:
    """argmax_a f(s, a) over [−1, 1]^A, roughly, for B states at once, and its f:

    a_1 … a_M ~ clip( N(μ_i, σ_i²), −1, 1 ), from μ_0 and σ_0 = 1; then μ_{i+1} and σ_{i+1} are
    mean and standard deviation (with m − 1) of the m of them with the largest f

    The best sample of the last round is the answer, as in the authors' code: its f is known, while
    the elites' mean, which is closer on a parabola, may lie in the valley between two maxima.

    Args:
      score: f, of actions (B, M, A) in [−1, 1] to (B, M).
      start: μ_0 of each state.
      key: Of the samples; None: the same ones for every state and at every call.
      num_samples: M, of each round.
      num_elites: m.
      num_rounds: Each costs M evaluations of f a state.

    Raises:
      InputError: if the elites are more than the samples, or the numbers too small.
    """
    check_numbers(num_samples, num_elites, num_rounds)
    num_states, action_size = start.shape
    noise = sample_noise(key, num_states, num_rounds * num_samples, action_size)
    mean, std = start[:, None], 1.0
    for epsilon in jnp.split(noise, num_rounds, axis=1):
        action = jnp.clip(mean + std * epsilon, -1.0, 1.0)
        elite_score, index = jax.lax.top_k(score(action), num_elites)
        elite = jnp.take_along_axis(action, index[..., None], axis=1)
        mean = jnp.mean(elite, axis=1, keepdims=True)
        std = jnp.std(elite, axis=1, keepdims=True, ddof=1)
    return elite[:, 0], elite_score[:, 0]


def check_numbers(num_samples: int, num_elites: int, num_rounds: int) -> None:
    """Raises InputError for what `maximize` cannot work with."""
    if not (2 <= num_elites <= num_samples and num_rounds >= 1):
        raise InputError(
            f"num_samples={num_samples}, num_elites={num_elites} and num_rounds={num_rounds}; give "
            "at least one round, two elites and as many samples"
        )
