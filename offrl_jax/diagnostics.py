"""What a learner believes and does beside its data, cheap enough to be asked after every chunk.

The learned minus the actual value belongs here too but needs an environment:
`evaluation.rollouts.Rollouts.value_error`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax import learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.bc import BCConfig, bc
from offrl_jax.data.dataset import Dataset, sample
from offrl_jax.networks import gaussian_policy
from offrl_jax.types import Array, Float, Metrics

NUM_STATES = 1024
SATURATED = 0.99
BEHAVIOR = BCConfig(hidden_sizes=(64, 64), learning_rate=1e-3)
NUM_BEHAVIOR_STEPS = 1000


def clone_behavior(dataset: Dataset) -> Any:
    """Parameters of a small tanh-Gaussian β(a|s), cloned from the data: a ruler for `diagnose`, the
    same for all runs on the same data."""
    key = jax.random.key(0)
    state = learner.init(bc, BEHAVIOR, dataset.spec, key)
    return learner.learn(bc, BEHAVIOR, dataset, state, key, num_steps=NUM_BEHAVIOR_STEPS)[0].actor


@partial(jax.jit, static_argnames="algorithm")
def diagnose(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, behavior: Any
) -> Metrics:
    """Means over 1024 states of the data, always the same ones, for every run at once.

    diagnostics/policy_gap         mean_k Q_k(s, π(s)) − Q_k(s, a), a the data's, π(s) the mode
    diagnostics/random_gap         the same of uniformly random actions
    diagnostics/ensemble_spread    standard deviation over k of Q_k(s, π(s))
    diagnostics/action_saturation  share of the entries of π(s) beyond ±0.99
    diagnostics/behavior_nll       −log β(π(s)|s): how unlike the data's the policy's actions are
    diagnostics/data_nll           −log β(a|s), to compare it with

    The first three only where the algorithm has a critic of actions.

    Args:
      algorithm: Whose state it is.
      config: Its config, stacked where the runs are settings × seeds.
      dataset: What it learns from.
      state: With axes as in `learner.learn`.
      behavior: From `clone_behavior`.
    """
    sample_key, random_key = jax.random.split(jax.random.key(0))
    batch = sample(dataset, sample_key, NUM_STATES)
    random = jax.random.uniform(random_key, batch.action.shape, minval=-1.0, maxval=1.0)
    beta = gaussian_policy(BEHAVIOR.hidden_sizes, behavior, batch.observation)

    def of_run(config: Any, state: Any) -> Metrics:
        action = algorithm.act(config, state, batch.observation, None)
        metrics = {
            "action_saturation": jnp.mean((jnp.abs(action) > SATURATED).astype(jnp.float32)),
            "behavior_nll": -jnp.mean(beta.log_prob(action)),
            "data_nll": -jnp.mean(beta.log_prob(batch.action)),
        }
        if algorithm.q_values is not None:
            q = partial(algorithm.q_values, config, state, batch.observation)
            metrics |= q_diagnostics(q(action), q(random), q(batch.action))
        return {f"diagnostics/{name}": value for name, value in metrics.items()}

    return learner.over_runs(of_run, state.step.ndim)(config, state)


def q_diagnostics(
    q: Float[Array, "E B"], q_random: Float[Array, "E B"], q_data: Float[Array, "E B"]
) -> Metrics:
    """Gaps and spread from Q at the policy's, at random and at the data's actions."""
    return {
        "policy_gap": jnp.mean(q - q_data),
        "random_gap": jnp.mean(q_random - q_data),
        "ensemble_spread": jnp.mean(jnp.std(q, axis=0)),
    }
