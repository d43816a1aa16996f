"""IQL: values in the sample only, as expectiles over the data's actions; a policy by weighted
cloning. XQL, SQL and EQL are the same learner with another loss of the value.

Discrete actions enter the critics as one-hot rows and take a categorical policy; nothing else
differs, since no maximum over actions is ever taken.

Citation: Kostrikov et al. 2021, arXiv:2110.06169. XQL: Garg et al. 2023, arXiv:2301.02328; SQL and
EQL: Xu et al. 2023, arXiv:2303.15810.
Update order: value → actor → critics → target critics, each with the new value.
Checked against: the authors' code (ikostrikov/implicit_q_learning at 09d7002; ryanxhr/IVR at
58edd26; Div99/XQL at dff09af). Departures: layers start as everywhere here, not orthogonal; XQL's
critics are fitted by squares, not by a Huber loss.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import critics
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import (
    expectile_loss,
    exponential_loss,
    exponential_weight,
    gumbel_loss,
    sparse_loss,
    weighted_likelihood_loss,
)
from offrl_jax.losses.td import polyak, td_target
from offrl_jax.networks.distributions import Categorical, Gaussian
from offrl_jax.networks.heads import (
    categorical_policy,
    init_critics,
    init_policy,
    init_tanh_mean_policy,
    init_value,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable, cosine_rate
from offrl_jax.networks.values import network_setting
from offrl_jax.types import Array, Float, Int, Key, Metrics, Spec, Transition


@config
class IQLConfig:
    discount: float = setting(0.99, "γ", low=0, high=1)
    value_loss: str = setting(
        "expectile",
        "expectile: IQL; gumbel: XQL; sparse: SQL; exponential: EQL",
        choices=("expectile", "gumbel", "sparse", "exponential"),
    )
    expectile: float = setting(0.7, "τ of the expectile loss; 0.5 is SARSA", low=0, high=1)
    value_temperature: float = setting(
        1.0, "β of XQL's, α of SQL's and EQL's value: small is greedy", low=1e-6
    )
    max_exponent: float = setting(5.0, "clip of (Q − V) / temperature in XQL and EQL", low=0)
    policy_weight: str = setting(
        "exponential",
        "weight of an action in the cloning, exponential: exp(β (Q − V)); linear: Q − V where "
        "that is positive, SQL's",
        choices=("exponential", "linear"),
    )
    policy: str = setting(
        "gaussian",
        "gaussian: about tanh f(s), one σ for all states; categorical: over discrete actions",
        choices=("gaussian", "categorical"),
    )
    inverse_temperature: float = setting(3.0, "β of the exponential weight; 0 is cloning", low=0)
    max_weight: float = setting(100.0, "clip of the weight", low=1)
    target_update_rate: float = setting(0.005, "Polyak rate of the target critics", low=0, high=1)
    actor_learning_rate: float = setting(3e-4, "Adam's step size for the actor", low=0)
    critic_learning_rate: float = setting(3e-4, "Adam's step size for critics and value", low=0)
    num_decay_steps: int = setting(
        1_000_000, "the actor's rate falls to 0 over these steps, along a cosine; 0: never", low=0
    )
    num_critics: int = setting(2, "E, critics whose minimum is used", low=1)
    actor_network: nn.Module = network_setting(MLP(), "actor's network", dropout=True)
    value_network: nn.Module = network_setting(MLP(), "network of V", dropout=True)
    critic_network: nn.Module = network_setting(MLP(), "network of each critic")
    batch_size: int = setting(256, "transitions a step", low=1)


class IQLState(NamedTuple):
    step: Int[Array, ""]
    actor: Trainable
    value: Trainable
    critic: Trainable  # stacked over E
    target_critic: Any


def init(config: IQLConfig, spec: Spec, key: Key) -> IQLState:
    """Fresh parameters, the target critics equal to the critics."""
    actor_key, value_key, critic_key = jax.random.split(key, 3)
    critic = init_critics(config.critic_network, config.num_critics, spec, critic_key)
    return IQLState(
        step=jnp.int32(0),
        actor=Trainable.create(init_actor(config, spec, actor_key)),
        value=Trainable.create(init_value(config.value_network, spec, value_key)),
        critic=Trainable.create(critic),
        target_critic=critic,
    )


def init_actor(config: IQLConfig, spec: Spec, key: Key) -> Any:
    if config.policy == "categorical":
        return init_policy(config.actor_network, spec.action_size, spec, key)
    return init_tanh_mean_policy(config.actor_network, spec, key)


def policy_of(
    config: IQLConfig, actor: Any, observation: Float[Array, "B O"], key: Key | None = None
) -> Gaussian | Categorical:
    """π(·|s); a key drops units out."""
    family = {"gaussian": tanh_mean_policy, "categorical": categorical_policy}[config.policy]
    return family(config.actor_network, actor, observation, key=key)


def value_loss(
    config: IQLConfig, value: Any, batch: Transition, q: Float[Array, "B"], key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """Of u = min_k Q̄_k(s, a) − V(s), by `config.value_loss`:

    expectile    E[ |τ − 1(u < 0)| u² ]
    gumbel       E[ e^{u/β} − u/β − 1 ]
    sparse       E[ 1(t > 0) t² + V/α ],  t = 1 + u/2α
    exponential  E[ e^{u/α} + V/α ]

    Source: Kostrikov et al. 2021, arXiv:2110.06169, eq. 5; Garg et al. 2023, arXiv:2301.02328,
    eq. 10; Xu et al. 2023, arXiv:2303.15810, eq. 12 and 15. Clips: see `losses.regression`.
    """
    v = state_value(config.value_network, value, batch.observation, key=key)
    temperature, clip = config.value_temperature, config.max_exponent
    loss = {
        "expectile": lambda: expectile_loss(q - v, config.expectile),
        "gumbel": lambda: gumbel_loss((q - v) / temperature, clip),
        "sparse": lambda: sparse_loss(q, v, temperature),
        "exponential": lambda: exponential_loss(q, v, temperature, clip),
    }[config.value_loss]()
    return loss, {"value/loss": loss, "value/v": jnp.mean(v)}


def actor_loss(
    config: IQLConfig, actor: Any, batch: Transition, advantage: Float[Array, "B"], key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b w(A) log π(a|s),   w = e^{β A}, or max(A, 0) if `linear`, at most w_max.

    Source: Kostrikov et al. 2021, arXiv:2110.06169, eq. 7; Xu et al. 2023, arXiv:2303.15810,
    eq. 13.
    """
    policy = policy_of(config, actor, batch.observation, key)
    if config.policy_weight == "exponential":
        weight = exponential_weight(config.inverse_temperature * advantage, config.max_weight)
    else:
        weight = jnp.clip(advantage, 0.0, config.max_weight)
    loss = weighted_likelihood_loss(weight, policy.log_prob(batch.action))
    return loss, {
        "actor/loss": loss,
        "actor/weight": jnp.mean(weight),
        "actor/advantage": jnp.mean(advantage),
    }


def critic_loss(
    config: IQLConfig, critic: Any, batch: Transition, next_value: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """Σ_k mean_b ( Q_k(s, a) − r − γ (1 − d) V(s′) )².

    Source: Kostrikov et al. 2021, arXiv:2110.06169, eq. 6.
    """
    target = td_target(batch.reward, batch.terminal, next_value, config.discount)
    return critics.critic_loss(config, critic, batch, target)


def update(
    config: IQLConfig, state: IQLState, batch: Transition, key: Key
) -> tuple[IQLState, Metrics]:
    value_key, actor_key = jax.random.split(key)
    q = critics.minimum_q(config, state.target_critic, batch.observation, batch.action)
    value, value_metrics = state.value.minimize(
        lambda value: value_loss(config, value, batch, q, value_key), config.critic_learning_rate
    )
    observations = jnp.concatenate([batch.observation, batch.next_observation])
    v, next_v = jnp.split(state_value(config.value_network, value.params, observations), 2)
    actor, actor_metrics = state.actor.minimize(
        lambda actor: actor_loss(config, actor, batch, q - v, actor_key),
        cosine_rate(config.actor_learning_rate, state.step, config.num_decay_steps),
    )
    critic, critic_metrics = state.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, next_v), config.critic_learning_rate
    )
    target_critic = polyak(state.target_critic, critic.params, config.target_update_rate)
    state = IQLState(state.step + 1, actor, value, critic, target_critic)
    return state, value_metrics | actor_metrics | critic_metrics


def act(
    config: IQLConfig, state: IQLState, observation: Float[Array, "B O"], key: Key | None
) -> Float[Array, "B A"]:
    policy = policy_of(config, state.actor.params, observation)
    return policy.mode() if key is None else policy.sample(key)


def value(
    config: IQLConfig, state: IQLState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, π(s)) at the policy's mode. V itself is of the best actions of the data."""
    action = act(config, state, observation, None)
    return critics.minimum_q(config, state.critic.params, observation, action)


iql = Algorithm(
    name="iql",
    Config=IQLConfig,
    init=init,
    update=update,
    act=act,
    value=value,
    citation="Kostrikov et al. 2021, arXiv:2110.06169",
    q_values=critics.state_q_values,
    discrete=lambda config: config.policy == "categorical",
)
