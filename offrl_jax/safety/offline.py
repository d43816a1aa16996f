"""Accident critics of fixed data, and shields for policies that were learned offline.

Nothing is collected: the critic evaluates a trained policy's accidents on a dataset whose
transitions have a cost, and the policy then acts through the shield.
"""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.config import validate
from offrl_jax.data.dataset import Dataset
from offrl_jax.safety import shield
from offrl_jax.safety.critic import (
    AccidentCritic,
    accident_q,
    critic_step,
    init_accident_critic,
)
from offrl_jax.safety.replay import Experience
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import Array, Float, InputError, Int, Key, Metrics, Scalar

TERMINAL = "terminal"


def costs(dataset: Dataset, cost: np.ndarray | str) -> Float[Array, "N"]:
    """The data's costs: a column of zeros and ones, or "terminal" where every true end of an
    episode is an accident, as Hopper's falls are.

    Raises:
      InputError: if the column has another length or other values, or holds no accident at all.
    """
    name = dataset.spec.name
    if isinstance(cost, str):
        if cost != TERMINAL:
            raise InputError(f'cost={cost!r}; give a column of costs, or "{TERMINAL}"')
        column = np.asarray(dataset.transitions.terminal)
    else:
        column = np.asarray(cost)
    if column.shape != (len(dataset),):
        raise InputError(
            f"the cost has shape {column.shape} but {name} has {len(dataset)} transitions; give "
            "one number each"
        )
    if not np.isin(column, (0, 1)).all():
        raise InputError(f"the cost of {name} has values other than 0 and 1; mark accidents by 1")
    if not column.any():
        raise InputError(f"{name} holds no accident for a critic to learn from; give other data")
    return jnp.asarray(column, jnp.float32)


def learn_accident_critic(
    config: SafetyConfig,
    dataset: Dataset,
    cost: np.ndarray | str,
    algorithm: Algorithm,
    algorithm_config: Any,
    state: Any,
    key: Key,
    *,
    num_steps: int,
) -> tuple[AccidentCritic, Metrics]:
    """Q̂_C of one trained policy, by `num_steps` updates on the data. Of several seeds it is mapped
    with `jax.vmap` over their states and keys.

    Args:
      config: Its α, penalty, discount and networks.
      dataset: As the policy's learner saw it (`Trained.as_learnt`), continuous actions.
      cost: See `costs`. A transition with a cost counts as the episode's end.
      algorithm: Whose policy it is.
      algorithm_config: Its config.
      state: The policy's state, of one seed.
      key: Of everything random.
      num_steps: Updates of `critic_step`.

    Returns:
      The critic, and metrics averaged over the last tenth of the steps.

    Raises:
      InputError: for costs or settings that cannot be used, discrete actions, or several seeds.
    """
    validate(config)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}; give at least one, to learn a critic")
    if dataset.spec.discrete:
        raise InputError(
            f"{dataset.spec.name} has discrete actions; a shield needs continuous ones"
        )
    if jnp.ndim(state.step):
        raise InputError(
            f"the state is of {len(state.step)} seeds; give one seed's, or map over states and keys"
            " with jax.vmap"
        )
    column = costs(dataset, cost)
    rows = dataset.transitions
    data = Experience(
        rows.observation,
        rows.action,
        rows.next_observation,
        column,
        jnp.maximum(rows.terminal, column),
    )
    act = partial(algorithm.act, algorithm_config)
    return _learned(config, data, dataset.spec.bare(), act, state, key, num_steps)


@partial(jax.jit, static_argnames=("spec", "act", "num_steps"))
def _learned(
    config: SafetyConfig,
    data: Experience,
    spec: Any,
    act: Any,
    state: Any,
    key: Key,
    num_steps: int,
) -> tuple[AccidentCritic, Metrics]:
    def drawn(observation: Array, key: Key) -> Array:
        keys = jax.random.split(key, config.num_policy_actions)
        return jnp.stack([act(state, observation, k) for k in keys], axis=1)

    def step(critic: AccidentCritic, key: Key) -> tuple[AccidentCritic, Metrics]:
        batch_key, here_key, next_key, uniform_key = jax.random.split(key, 4)
        index = jax.random.randint(batch_key, (config.batch_size,), 0, data.cost.shape[0])
        batch = jax.tree.map(lambda x: x[index], data)
        here = drawn(batch.observation, here_key)
        there = drawn(batch.next_observation, next_key)
        return critic_step(
            config, critic, batch, policy_action=here, next_action=there, key=uniform_key
        )

    init_key, key = jax.random.split(key)
    critic = init_accident_critic(config, spec, init_key)
    critic, metrics = jax.lax.scan(step, critic, jax.random.split(key, num_steps))
    return critic, jax.tree.map(lambda x: jnp.mean(x[-max(num_steps // 10, 1) :]), metrics)


class Shielded(NamedTuple):
    """A trained policy's state beside its accident critic, as `shielded` acts on them; of S seeds,
    with their axis in front of both."""

    step: Int[Array, ""]
    policy: Any
    accident: Any  # parameters of Q_C


def shielded_state(state: Any, critic: AccidentCritic) -> Shielded:
    """What the algorithm that `shielded` makes takes for its state."""
    return Shielded(state.step, state, critic.network.params)


def shielded(
    algorithm: Algorithm, config: SafetyConfig, *, epsilon: Scalar, spread: Scalar = 0.2
) -> Algorithm:
    """The algorithm acting through a shield, on states of `shielded_state`.

    Its own action stands where Q̂_C(s, a) ≤ ε. Else others are drawn, at most `num_shield_actions`
    in all: its own draws (or, of a deterministic policy, its action) with normal noise, clipped.
    Where none is safe enough, the least dangerous is taken. It goes wherever an algorithm does:
    `Evaluator`, `policy.Policy`, `diagnostics`. Without a key, as where modes are asked for, its
    own action is the mode and the others' draws are the same at every call.

    Args:
      algorithm: Of continuous actions.
      config: Of the critic.
      epsilon: ε: dangers are discounted by the critic's γ, and conservative ones add α's share.
      spread: Standard deviation of the noise.

    Raises:
      InputError: if the algorithm's actions are discrete, or ε or the spread is NaN.
    """
    if algorithm.discrete(algorithm.Config()):
        raise InputError(f"{algorithm.name} has discrete actions; a shield needs continuous ones")
    return _shielded(algorithm, config, _number("epsilon", epsilon), _number("spread", spread))


def _number(name: str, value: Scalar) -> float:
    """One that a cache can look up, which an array is not."""
    number = float(value)
    if math.isnan(number):
        raise InputError(f"{name} is NaN; give a number")
    return number


@cache  # a new function of the same rule would be compiled anew
def _shielded(
    algorithm: Algorithm, config: SafetyConfig, epsilon: float, spread: float
) -> Algorithm:
    def act(
        own: Any, state: Shielded, observation: Float[Array, "B O"], key: Key | None
    ) -> Float[Array, "B A"]:
        first = algorithm.act(own, state.policy, observation, key)
        draw_key, noise_key = jax.random.split(jax.random.key(0) if key is None else key)
        keys = jax.random.split(draw_key, config.num_shield_actions)
        drawn = jax.vmap(partial(algorithm.act, own, state.policy, observation))(keys)
        noise = spread * jax.random.normal(noise_key, drawn.shape)
        others = jnp.swapaxes(jnp.clip(drawn + noise, -1.0, 1.0), 0, 1)
        action = jnp.concatenate([first[:, None], others[:, 1:]], axis=1)
        q = accident_q(config, state.accident, observation, action)
        return shield.choose(action, q, epsilon).action

    return algorithm._replace(
        name=f"{algorithm.name}_shielded", act=act, value=None, q_values=None, check=None
    )
