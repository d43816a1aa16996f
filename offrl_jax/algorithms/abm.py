"""ABM: a prior clones the data's actions that did better than the policy would; MPO improves the
policy within a KL divergence of that prior.

Citation: Siegel et al. 2020, arXiv:2002.08396. MPO: Abdolmaleki et al. 2018, arXiv:1806.06920.
Update order: critics, prior, temperature of the improvement, actor and the multiplier of its trust
region, all from the same old parameters; then the targets.
Checked against: acme's MPO (google-deepmind/acme, jax/losses/mpo.py); the authors of ABM published
no code. Departures: the data's advantage takes the return to the recorded end
of the episode, where the paper takes N steps and V (so do not shift rewards below zero where
episodes are cut), and counts from 0 on, the paper's 1[A ≥ 0]; the trust region bounds one KL
divergence, acme's two.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from offrl_jax.algorithms.base import Algorithm, Phase
from offrl_jax.algorithms.common import advantage_weighted
from offrl_jax.algorithms.common.advantage_weighted import (
    AdvantageWeightedConfig,
    AdvantageWeightedState,
    baseline_value,
    policy_of,
    sampled_actions,
)
from offrl_jax.algorithms.common.agents import of_agent
from offrl_jax.algorithms.common.critics import critic_loss, minimum_q, state_q_values
from offrl_jax.algorithms.common.relabel import with_discounted_returns
from offrl_jax.config import config, setting
from offrl_jax.losses.divergences import gaussian_kl
from offrl_jax.losses.mpo import improved_weights, improvement_kl, temperature_dual
from offrl_jax.losses.regression import weighted_likelihood_loss
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.types import Array, Float, Key, Metrics, Spec, Transition

MIN_DUAL = 1e-8


@config
class ABMConfig(AdvantageWeightedConfig):
    policy: str = setting(
        "tanh_gaussian",
        "of actor and prior, tanh_mean: Gaussian about tanh f(s), one σ for all states, whose "
        "clipped samples pull the actor inwards; tanh_gaussian: squashed Gaussian, its σ by state",
        choices=("tanh_mean", "tanh_gaussian"),
    )
    prior_weight: str = setting(
        "advantage",
        "advantage: the prior clones actions with A ≥ 0 (ABM); uniform: all of them (BM)",
        choices=("advantage", "uniform"),
    )
    prior_advantage: str = setting(
        "monte_carlo",
        "A of the data's action, monte_carlo: its discounted return − V(s); critic: Q(s, a) − V(s)",
        choices=("monte_carlo", "critic"),
    )
    prior_learning_rate: float = setting(3e-4, "Adam's step size for the prior", low=0)
    num_baseline_samples: int = setting(
        20, "M, actions of the policy in V(s) and of the prior in its improvement", low=2
    )
    improvement_epsilon: float = setting(
        0.1, "ε, KL divergence of the improved action choice from the prior, below log M", low=0
    )
    trust_region: float = setting(
        0.01, "bound of KL(π̄‖π), the policy's divergence from its target", low=0
    )
    initial_temperature: float = setting(1.0, "η of the improvement at the start", low=1e-3)
    initial_multiplier: float = setting(1.0, "of the trust region at the start", low=1e-3)
    dual_learning_rate: float = setting(
        1e-2, "Adam's step size for η and the multiplier, before their softplus", low=0
    )
    num_target_actions: int = setting(20, "next actions that the target averages over", low=1)
    target_update_rate: float = setting(1.0, "Polyak rate of all targets", low=0, high=1)
    target_update_period: int = setting(
        100, "steps between two updates of the targets; with rate 1 they are copies", low=1
    )


class ABMState(NamedTuple):
    agent: AdvantageWeightedState
    prior: Trainable
    duals: Trainable  # {"temperature", "multiplier"}, before their softplus

    @property
    def step(self) -> Array:
        return self.agent.step


def init(config: ABMConfig, spec: Spec, key: Key) -> ABMState:
    """The agent of the same key, a prior of its own and the duals at their start."""
    prior = advantage_weighted.init_actor(config, spec, jax.random.fold_in(key, 2))
    starts = {"temperature": config.initial_temperature, "multiplier": config.initial_multiplier}
    duals = {name: softplus_inverse(jnp.float32(start)) for name, start in starts.items()}
    return ABMState(
        agent=advantage_weighted.init(config, spec, key, has_target_actor=True),
        prior=Trainable.create(prior),
        duals=Trainable.create(duals),
    )


def prior_weight(
    config: ABMConfig, agent: AdvantageWeightedState, batch: Transition, key: Key
) -> Float[Array, "B"]:
    """f(A) = 1[A ≥ 0], A = R − V(s) or Q̄(s, a) − V(s), with `baseline_value` of π̄ for V.

    Source: Siegel et al. 2020, arXiv:2002.08396, section 3.2.
    """
    if config.prior_weight == "uniform":
        return jnp.ones_like(batch.reward)
    critic = agent.target_critic
    policy = policy_of(config, agent.target_actor, batch.observation)
    baseline = baseline_value(config, critic, batch.observation, policy=policy, key=key)
    outcome = batch.return_to_go
    if config.prior_advantage == "critic":
        outcome = minimum_q(config, critic, batch.observation, batch.action)
    return (outcome >= baseline).astype(baseline.dtype)


def prior_loss(
    config: ABMConfig, prior: Any, batch: Transition, weight: Float[Array, "B"]
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b f(A) log p(a|s).

    Source: Siegel et al. 2020, arXiv:2002.08396, section 3.2.
    """
    loss, _ = advantage_weighted.actor_loss(config, prior, batch, weight)
    return loss, {"prior/loss": loss, "prior/weight": jnp.mean(weight)}


def dual_loss(
    config: ABMConfig, duals: Any, q: Float[Array, "B N"], shift: Float[Array, ""]
) -> tuple[Float[Array, ""], Metrics]:
    """g(η) + α (ε_π − sg KL(π̄‖π)): η makes the improvement spend ε, α the step at most ε_π.

    Source: Abdolmaleki et al. 2018, arXiv:1806.06920, eq. 8 and section 4.2.
    """
    temperature, multiplier = softplus(duals["temperature"]), softplus(duals["multiplier"])
    slack = config.trust_region - jax.lax.stop_gradient(shift)
    loss = temperature_dual(q, temperature, config.improvement_epsilon) + multiplier * slack
    return loss, {"actor/temperature": temperature}


def softplus(dual: Float[Array, ""]) -> Float[Array, ""]:
    return jax.nn.softplus(dual) + MIN_DUAL


def softplus_inverse(value: Float[Array, ""]) -> Float[Array, ""]:
    return value + jnp.log(-jnp.expm1(-value))


def actor_loss(
    config: ABMConfig,
    actor: Any,
    state: ABMState,
    batch: Transition,
    *,
    action: Float[Array, "B N A"],
    weight: Float[Array, "B N"],
) -> tuple[Float[Array, ""], Metrics]:
    """−mean_b Σ_j w_j log π(a_j|s) + α KL(π̄‖π), a_j of the prior and w by `improved_weights`.

    Source: Abdolmaleki et al. 2018, arXiv:1806.06920, eq. 12; Siegel et al. 2020,
    arXiv:2002.08396, section 3.3.
    """
    policy = policy_of(config, actor, batch.observation)
    target_policy = policy_of(config, state.agent.target_actor, batch.observation)
    log_prob = jax.vmap(policy.log_prob, in_axes=1, out_axes=1)(action)
    cloning_loss = action.shape[1] * weighted_likelihood_loss(weight.ravel(), log_prob.ravel())
    shift = jnp.mean(gaussian_kl(*target_policy, *policy))
    loss = cloning_loss + softplus(state.duals.params["multiplier"]) * shift
    return loss, {
        "actor/loss": loss,
        "actor/improvement_kl": improvement_kl(weight),
        "actor/shift_kl": shift,
    }


def update(
    config: ABMConfig, state: ABMState, batch: Transition, key: Key
) -> tuple[ABMState, Metrics]:
    agent = state.agent
    target_key, value_key, action_key = jax.random.split(key, 3)
    target = advantage_weighted.value_target(config, agent, batch, target_key)
    cloned = prior_weight(config, agent, batch, value_key)
    prior_policy = policy_of(config, state.prior.params, batch.observation)
    action = sampled_actions(prior_policy, config.num_baseline_samples, action_key)
    q = minimum_q(config, agent.target_critic, batch.observation, action)
    improved = improved_weights(q, softplus(state.duals.params["temperature"]))

    critic, critic_metrics = agent.critic.minimize(
        lambda critic: critic_loss(config, critic, batch, target), config.critic_learning_rate
    )
    prior, prior_metrics = state.prior.minimize(
        lambda prior: prior_loss(config, prior, batch, cloned), config.prior_learning_rate
    )
    actor, actor_metrics = agent.actor.minimize(
        lambda actor: actor_loss(config, actor, state, batch, action=action, weight=improved),
        config.actor_learning_rate,
    )
    duals, dual_metrics = state.duals.minimize(
        lambda duals: dual_loss(config, duals, q, actor_metrics["actor/shift_kl"]),
        config.dual_learning_rate,
    )
    agent = advantage_weighted.update_targets(config, agent, actor, critic)
    metrics = critic_metrics | prior_metrics | actor_metrics | dual_metrics
    return ABMState(agent, prior, duals), metrics


def phases(config: ABMConfig, update: Callable) -> tuple[Phase, ...]:
    return (Phase((update,), relabel=with_discounted_returns),)


abm = Algorithm(
    name="abm",
    Config=ABMConfig,
    init=init,
    update=update,
    act=of_agent(advantage_weighted.act),
    value=of_agent(advantage_weighted.value),
    citation="Siegel et al. 2020, arXiv:2002.08396",
    phases=phases,
    q_values=of_agent(state_q_values),
)
