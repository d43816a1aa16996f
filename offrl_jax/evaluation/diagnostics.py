"""What a learner believes and does beside its data, cheap enough to compute after every chunk.

The learned minus the actual value belongs here too but needs an environment:
`evaluation.rollouts.Rollouts.value_error`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from offrl_jax import learner
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.bc import BCConfig, bc, policy_of
from offrl_jax.axes import over_runs
from offrl_jax.data.dataset import Data, Dataset, draw
from offrl_jax.networks.modules import MLP
from offrl_jax.types import Array, Float, Key, Metrics, Spec

NUM_STATES = 1024
SATURATED = 0.99
NUM_BEHAVIOR_STEPS = 1000


def clone_behavior(dataset: Data) -> Any:
    """Parameters of a small β(a|s), tanh-Gaussian or categorical, cloned from the data: the
    reference of `diagnose`, the same for all runs on the same data."""
    key, config = jax.random.key(0), _behavior_config(dataset.spec)
    state = learner.init(bc, config, dataset.spec, key)
    state, _ = learner.learn(bc, config, dataset, state, key, num_steps=NUM_BEHAVIOR_STEPS)
    return state.actor.params


def states(dataset: Data) -> Dataset:
    """The 1024 rows that `diagnose` looks at, drawn uniformly and always the same ones."""
    sample_key, _ = jax.random.split(jax.random.key(0))
    return dataset.take(draw(sample_key, NUM_STATES, len(dataset)))


def _behavior_config(spec: Spec) -> BCConfig:
    policy = "categorical" if spec.discrete else "gaussian"
    return BCConfig(policy=policy, network=MLP((64, 64)), learning_rate=1e-3)


@partial(jax.jit, static_argnames="algorithm")
def diagnose(
    algorithm: Algorithm, config: Any, dataset: Dataset, state: Any, behavior: Any
) -> Metrics:
    """Means over states of the data for every run at once.

    diagnostics/policy_gap         mean_k Q_k(s, π(s)) − Q_k(s, a), a the data's, π(s) the mode
    diagnostics/random_gap         the same of uniformly random actions
    diagnostics/ensemble_spread    standard deviation over k of Q_k(s, π(s))
    diagnostics/action_saturation  share of the entries of π(s) beyond ±0.99
    diagnostics/favourite_share    in its place where actions are discrete: the share of the states
                                   that have the most frequent π(s)
    diagnostics/behavior_nll       −log β(π(s)|s): how unlike the data's the policy's actions are
    diagnostics/data_nll           −log β(a|s), to compare it with

    The first three only where the algorithm has a critic of actions.

    Args:
      algorithm: Whose state it is.
      config: Its config, stacked where the runs are settings × seeds.
      dataset: From `states`.
      state: With axes as in `learner.learn`.
      behavior: From `clone_behavior`.
    """
    _, random_key = jax.random.split(jax.random.key(0))
    batch = dataset.transitions
    random = _random_actions(random_key, batch.action.shape, dataset.spec)
    beta = policy_of(_behavior_config(dataset.spec), behavior, batch.observation)

    def of_run(config: Any, state: Any) -> Metrics:
        action = algorithm.act(config, state, batch.observation, None)
        metrics = {
            **_action_use(action, dataset.spec),
            "behavior_nll": -jnp.mean(beta.log_prob(action)),
            "data_nll": -jnp.mean(beta.log_prob(batch.action)),
        }
        if algorithm.q_values is not None:
            q = partial(algorithm.q_values, config, state, batch.observation)
            metrics |= q_diagnostics(q(action), q(random), q(batch.action))
        return {f"diagnostics/{name}": value for name, value in metrics.items()}

    return over_runs(of_run, state.step.ndim)(config, state)


def _random_actions(key: Key, shape: tuple[int, int], spec: Spec) -> Float[Array, "B A"]:
    if spec.discrete:
        return jax.nn.one_hot(jax.random.randint(key, shape[:1], 0, spec.action_size), shape[1])
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _action_use(action: Float[Array, "B A"], spec: Spec) -> Metrics:
    if spec.discrete:
        return {"favourite_share": jnp.max(jnp.mean(action, axis=0))}
    return {"action_saturation": jnp.mean((jnp.abs(action) > SATURATED).astype(jnp.float32))}


def q_diagnostics(
    q: Float[Array, "E B"], q_random: Float[Array, "E B"], q_data: Float[Array, "E B"]
) -> Metrics:
    """Gaps and spread from Q at the policy's, at random and at the data's actions."""
    return {
        "policy_gap": jnp.mean(q - q_data),
        "random_gap": jnp.mean(q_random - q_data),
        "ensemble_spread": jnp.mean(jnp.std(q, axis=0)),
    }
