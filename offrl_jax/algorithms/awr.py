"""AWR: cloning weighted by e^{A/T} with A = R − V, R the TD(λ) return of the data under V.

Citation: Peng et al. 2019, arXiv:1910.00177.
Update order: every `relabel_every` steps the returns of the whole dataset under the value as it
then is; at each step value and actor, from the same old parameters.
Checked against: the authors' code (xbpeng/awr at 831442f). Departures: theirs takes 200 steps of
the value and then, with new returns, 1000 of the actor, where here each step is one of both; the
mean goes through tanh instead of paying for leaving the bounds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common.relabel import with_lambda_returns
from offrl_jax.config import config, setting
from offrl_jax.data.dataset import Dataset
from offrl_jax.losses.regression import (
    exponential_weight,
    standardized,
    weighted_likelihood_loss,
)
from offrl_jax.networks.distributions import Gaussian
from offrl_jax.networks.heads import deterministic_policy, init_policy, init_value, state_value
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import OPTIMIZERS, Trainable
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition

ROWS_AT_ONCE = 65_536  # of the dataset, so that hidden layers fit in memory


@config
class AWRConfig:
    discount: float = setting(0.99, "γ, below 1", low=0, high=0.9999)
    trace_decay: float = setting(0.95, "λ of the returns: 0 one step, 1 Monte-Carlo", low=0, high=1)
    standardize_advantage: bool = setting(
        True, "divide A by its deviation over the data, less its mean: the authors' code"
    )
    advantage_temperature: float = setting(
        1.0, "T of the weight e^{A/T}; 0.05 is the paper's, without standardize_advantage", low=1e-6
    )
    max_weight: float = setting(20.0, "clip of the weight", low=1)
    relabel_every: int = setting(1000, "steps between two computations of the returns", low=1)
    action_std: float = setting(0.4, "fixed standard deviation of the policy", low=1e-3)
    optimizer: str = setting(
        "adam", "adam, or sgd with momentum 0.9 as the authors", choices=tuple(OPTIMIZERS)
    )
    actor_learning_rate: float = setting(3e-4, "step size for the actor", low=0)
    critic_learning_rate: float = setting(1e-3, "step size for the value", low=0)
    actor_network: nn.Module = network_setting(MLP((128, 64)), "actor's network")
    value_network: nn.Module = network_setting(MLP((128, 64)), "network of V")
    batch_size: int = setting(256, "transitions a step", low=1)


class AWRState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    value: Trainable
    labelling_value: Any  # under which the dataset's returns and advantages are
    advantage_mean: Float[Array, ""]  # of those, over the dataset
    advantage_std: Float[Array, ""]


def init(config: AWRConfig, spec: Spec, key: Key) -> AWRState:
    actor_key, value_key = jax.random.split(key)
    actor = init_policy(config.actor_network, spec.action_size, spec, actor_key)
    value = init_value(config.value_network, spec, value_key)
    return AWRState(
        step=jnp.int32(0),
        actor=Trainable.create(actor, config.optimizer),
        value=Trainable.create(value, config.optimizer),
        labelling_value=value,
        advantage_mean=jnp.float32(0.0),
        advantage_std=jnp.float32(1.0),
    )


def value_of(config: AWRConfig, value: Any, observation: Float[Array, "B O"]) -> Float[Array, "B"]:
    """V(s) = f(s) / (1 − γ), so that f is of the size of a reward."""
    return state_value(config.value_network, value, observation) / (1.0 - config.discount)


def relabel(config: AWRConfig, state: AWRState, dataset: Dataset) -> tuple[AWRState, Dataset]:
    """The dataset with TD(λ) returns for `return_to_go`, under a value that only steps divisible by
    `relabel_every` renew: resuming between two of them gives the same numbers.

    Source: Peng et al. 2019, arXiv:1910.00177, algorithm 1 and section 5.1.
    """
    due = state.step % config.relabel_every == 0

    def renewed(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), new, old)

    labelling_value = renewed(state.value.params, state.labelling_value)
    rows = dataset.transitions

    def over_rows(observation: Float[Array, "N O"]) -> Float[Array, "N"]:
        one = lambda row: value_of(config, labelling_value, row[None])[0]  # noqa: E731
        return jax.lax.map(one, observation, batch_size=ROWS_AT_ONCE)

    dataset = with_lambda_returns(
        dataset, over_rows(rows.next_observation), config.discount, config.trace_decay
    )
    advantage = dataset.transitions.return_to_go - over_rows(rows.observation)
    state = state._replace(
        labelling_value=labelling_value,
        advantage_mean=renewed(jnp.mean(advantage), state.advantage_mean),
        advantage_std=renewed(jnp.std(advantage), state.advantage_std),
    )
    return state, dataset


def value_loss(
    config: AWRConfig, value: Any, batch: Transition
) -> tuple[Float[Array, ""], Metrics]:
    """½ mean_b ( (1 − γ) (R − V(s)) )².

    Source: Peng et al. 2019, arXiv:1910.00177, eq. 11, with the scale of the authors' code.
    """
    error = batch.return_to_go - value_of(config, value, batch.observation)
    loss = 0.5 * jnp.mean(jnp.square((1.0 - config.discount) * error))
    return loss, {"value/loss": loss}


def advantage_weight(config: AWRConfig, state: AWRState, batch: Transition) -> Float[Array, "B"]:
    """w = min( e^{A/T}, w_max ),   A = R − V(s), standardised over the dataset if so configured.

    Source: Peng et al. 2019, arXiv:1910.00177, eq. 10 and section 5.2.
    """
    advantage = batch.return_to_go - value_of(config, state.labelling_value, batch.observation)
    if config.standardize_advantage:
        advantage = standardized(advantage, state.advantage_mean, state.advantage_std)
    return exponential_weight(advantage / config.advantage_temperature, config.max_weight)


def policy_of(config: AWRConfig, actor: Any, observation: Float[Array, "B O"]) -> Gaussian:
    """π(·|s) = N(tanh f(s), σ²) with a fixed σ."""
    mean = deterministic_policy(config.actor_network, actor, observation)
    return Gaussian(mean, jnp.full_like(mean, jnp.log(config.action_std)))


def actor_loss(
    config: AWRConfig, actor: Any, batch: Transition, weight: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b w_b log π(a|s).

    Source: Peng et al. 2019, arXiv:1910.00177, eq. 9.
    """
    policy = policy_of(config, actor, batch.observation)
    loss = weighted_likelihood_loss(weight, policy.log_prob(batch.action))
    return loss, {"actor/loss": loss, "actor/weight": jnp.mean(weight)}


def update(
    config: AWRConfig, state: AWRState, batch: Transition, key: Key
) -> tuple[AWRState, Metrics]:
    """A step on a batch of the relabelled dataset."""
    del key
    weight = advantage_weight(config, state, batch)
    value, value_metrics = state.value.minimize(
        lambda value: value_loss(config, value, batch),
        config.critic_learning_rate,
        config.optimizer,
    )
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch, weight),
        config.actor_learning_rate,
        config.optimizer,
    )
    metrics = value_metrics | actor_metrics | {"actor/advantage_std": state.advantage_std}
    return state._replace(step=state.step + 1, actor=actor, value=value), metrics


def phases(config: AWRConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((update,), relabel=relabel, relabel_every=config.relabel_every),)


def act(
    config: AWRConfig, state: AWRState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = policy_of(config, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample(key)


def value(
    config: AWRConfig, state: AWRState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """V(s), which is that of the data's own behaviour."""
    return value_of(config, state.value.params, observation)


awr = Algorithm(
    name="awr",
    Config=AWRConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Peng et al. 2019, arXiv:1910.00177",
    phases=phases,
)
