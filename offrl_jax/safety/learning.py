"""Safe exploration: collect with the shield, learn the accident critic, step the policy and λ.

max_π V^π(s₀)  such that  V_C^π(s₀) ≤ χ  and  KL(π_old‖π) ≤ δ

One iteration: rows with the shield → replay → Q̂_C → V̂_C → advantages → policy → λ → V. Baselines
are other choices of the same config (`settings.METHODS`).

Citation: Bharadhwaj et al. 2021, Conservative Safety Critics for Exploration, arXiv:2010.14497.
Checked against: closed forms in the tests; the authors published no code.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from offrl_jax.config import validate
from offrl_jax.losses.divergences import gaussian_kl
from offrl_jax.networks.distributions import Gaussian
from offrl_jax.networks.heads import (
    init_tanh_mean_policy,
    init_value,
    state_value,
    tanh_mean_policy,
)
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable
from offrl_jax.safety import replay, shield, trust_region
from offrl_jax.safety.advantages import generalized_advantages
from offrl_jax.safety.critic import (
    AccidentCritic,
    accident_q,
    critic_step,
    init_accident_critic,
)
from offrl_jax.safety.replay import Replay
from offrl_jax.safety.rollout import Rollout, episode_metrics, flat
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.safety.shield import Choice
from offrl_jax.types import Array, Bool, Float, Int, Key, Metrics, Spec

Actor = Callable[..., Choice]  # (config, state, observation, key) -> Choice


class SafetyState(NamedTuple):
    step: Int[Array, ""]  # iterations
    actor: Trainable  # of `heads.tanh_mean_policy`
    value: Trainable
    critic: AccidentCritic
    multiplier: Float[Array, ""]  # λ
    accident_value: Float[Array, ""]  # V̂_C at first states, of the last iteration
    replay: Replay


def init(config: SafetyConfig, spec: Spec, key: Key) -> SafetyState:
    """Fresh networks and an empty replay buffer, which needs rows before the first `update`.

    V̂_C counts as χ until it is estimated, so that the shield's ε is 0 in the first iteration.

    Raises:
      InputError: if a setting is not one.
    """
    validate(config)
    actor_key, value_key, critic_key = jax.random.split(key, 3)
    network = MLP(config.hidden_sizes)
    actor = init_tanh_mean_policy(network, spec, actor_key)
    actor["log_std"] = actor["log_std"] + config.initial_log_std
    return SafetyState(
        step=jnp.int32(0),
        actor=Trainable.create(actor),
        value=Trainable.create(init_value(network, spec, value_key)),
        critic=init_accident_critic(config, spec, critic_key),
        multiplier=jnp.float32(config.initial_multiplier),
        accident_value=jnp.float32(config.accident_limit),
        replay=replay.empty(config.replay_size, spec.observation_size, spec.action_size),
    )


def policy_of(config: SafetyConfig, actor: Any, observation: Float[Array, "B O"]) -> Gaussian:
    """π(·|s) before actions are clipped."""
    return tanh_mean_policy(MLP(config.hidden_sizes), actor, observation)


def value_of(
    config: SafetyConfig, value: Any, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """V(s)."""
    return state_value(MLP(config.hidden_sizes), value, observation)


def act(
    config: SafetyConfig,
    state: SafetyState,
    observation: Float[Array, "B O"],
    key: Key,
    *,
    mode_first: bool = False,
) -> Choice:
    """An action a state, through the shield if `shielded`.

    Args:
      config: The settings.
      state: Gives π, Q̂_C and ε.
      observation: States.
      key: Of the draws.
      mode_first: Whether π's mode takes the place of the first draw, as evaluation does.
    """
    policy = policy_of(config, state.actor.params, observation)
    action = _draws(policy, key, config.num_shield_actions if config.shielded else 1)
    if mode_first:
        action = action.at[:, 0].set(policy.mode())
    if not config.shielded:
        return shield.choose(action, jnp.zeros(action.shape[:2]), 0.0)
    q = accident_q(config, state.critic.network.params, observation, jnp.clip(action, -1.0, 1.0))
    return shield.choose(action, q, _threshold(config, state))


def act_at_random(
    config: SafetyConfig, state: SafetyState, observation: Float[Array, "B O"], key: Key
) -> Choice:
    """Uniform actions, which fill the replay buffer before the first iteration."""
    shape = observation.shape[0], 1, state.actor.params["log_std"].shape[-1]
    action = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
    return shield.choose(action, jnp.zeros(action.shape[:2]), 0.0)


def update(
    config: SafetyConfig, state: SafetyState, rollout: Rollout, key: Key
) -> tuple[SafetyState, Metrics]:
    """One iteration on what was just collected."""
    critic_key, policy_key, value_key = jax.random.split(key, 3)
    state = state._replace(replay=replay.append(state.replay, rollout.experience()))
    metrics = episode_metrics(rollout) | {"shield/threshold": _threshold(config, state)}
    if uses_critic(config):
        state, found = _critic_phase(config, state, critic_key, config.num_critic_steps)
        metrics |= found
        start_key, policy_key = jax.random.split(policy_key)
        estimate = accident_value(config, state, rollout, start_key)
        state = state._replace(accident_value=estimate)
        metrics["policy/accident_value"] = estimate
    value, next_value = (
        value_of(config, state.value.params, flat(x)).reshape(rollout.reward.shape)
        for x in (rollout.observation, rollout.next_observation)
    )
    advantage = generalized_advantages(
        rollout.reward,
        value,
        next_value,
        terminal=rollout.terminal,
        end=rollout.end,
        discount=config.discount,
        decay=config.advantage_decay,
    )
    state, found = policy_step(config, state, rollout, flat(advantage), policy_key)
    metrics |= found
    state, found = _value_phase(config, state, rollout, flat(advantage + value), value_key)
    return state._replace(step=state.step + 1), metrics | found


def pretrained(config: SafetyConfig, state: SafetyState, rollout: Rollout, key: Key) -> SafetyState:
    """The state before the first iteration: the rows in the buffer, and the critic trained on
    them."""
    state = state._replace(replay=replay.append(state.replay, rollout.experience()))
    return _critic_phase(config, state, key, config.num_pretraining_steps)[0]


def uses_critic(config: SafetyConfig) -> bool:
    """Whether anything depends on the accident critic, and so on its first, random rows."""
    return config.shielded or config.constrained


def accident_value(
    config: SafetyConfig, state: SafetyState, rollout: Rollout, key: Key
) -> Float[Array, ""]:
    """V̂_C: E_{s₀, a~π} Q̂_C(s₀, a) over the rollout's first states, or the share of its finished
    episodes that ended in an accident; the last one's where it has none of those."""
    if config.accident_estimate == "episodes":
        weight, found = rollout.end, rollout.cost
    else:
        observation = flat(rollout.observation)
        policy = policy_of(config, state.actor.params, observation)
        action = _draws(policy, key, config.num_policy_actions)
        q = _clipped_q(config, state, observation, action)
        weight, found = rollout.is_first, jnp.mean(q, axis=1).reshape(rollout.reward.shape)
    total = jnp.sum(weight)
    mean = jnp.sum(weight * found) / jnp.maximum(total, 1.0)
    return jnp.where(total > 0, mean, state.accident_value)


def policy_step(
    config: SafetyConfig,
    state: SafetyState,
    rollout: Rollout,
    advantage: Float[Array, "B"],
    key: Key,
) -> tuple[SafetyState, Metrics]:
    """π and λ after one step on

    L(θ) = E[ π_θ/π_old A_R ] − λ E_{a~π_old}[ π_θ/π_old A_C ] / (1 − γ_C),   A_C = Q̂_C − E_π Q̂_C

    By the natural gradient the step is √(2δ/xᵀFx) x with F x = ∇L, shortened until KL(π_old‖π) ≤ δ
    and V̂_C + E[A_C] / (1 − γ_C) ≤ max(χ, V̂_C); refused altogether if no length is. Then
    λ ← [ λ + lr ( V̂_C + E[A_C] / (1 − γ_C) − χ ) ]_+, which rises under violation.

    Source: Bharadhwaj et al. 2021, arXiv:2010.14497, section 3 and algorithm 1.
    Departs from the paper: where V̂_C > χ already, a step need only not make it worse, else no step
    could ever lower it; A_R is standardised; A_C is of fresh actions of π at the visited states, as
    those that were carried out are the shield's.
    """
    observation, action = flat(rollout.observation), flat(rollout.action)
    old = policy_of(config, state.actor.params, observation)
    fresh = _draws(old, key, config.num_policy_actions)
    advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-6)
    q = _clipped_q(config, state, observation, fresh)
    unbiased = config.num_policy_actions / (config.num_policy_actions - 1)
    accident_advantage = unbiased * (q - jnp.mean(q, axis=1, keepdims=True))
    old_log_prob, old_fresh = old.log_prob(action), _log_probs(old, fresh)
    params, unravel = ravel_pytree(state.actor.params)

    def surrogates(params: Float[Array, "P"]) -> tuple[Array, Array]:
        """E[ratio A_R] and E[ratio A_C] / (1 − γ_C)."""
        policy = policy_of(config, unravel(params), observation)
        task = jnp.mean(jnp.exp(policy.log_prob(action) - old_log_prob) * advantage)
        ratio = jnp.exp(_log_probs(policy, fresh) - old_fresh)
        accident = jnp.mean(ratio * accident_advantage)
        return task, accident / (1.0 - config.accident_discount)

    def objective(params: Float[Array, "P"]) -> Float[Array, ""]:
        task, accident = surrogates(params)
        return task - state.multiplier * accident if config.constrained else task

    stride = max(observation.shape[0] // config.num_fisher_states, 1)

    def kl(params: Float[Array, "P"], every: int = 1) -> Float[Array, ""]:
        policy = policy_of(config, unravel(params), observation[::every])
        mean, log_std = old.mean[::every], old.log_std[::every]
        return jnp.mean(gaussian_kl(mean, log_std, policy.mean, policy.log_std))

    gradient = jax.grad(objective)(params)
    if config.policy_step == "trust_region":
        product = partial(
            trust_region.fisher_product, partial(kl, every=stride), params, damping=config.damping
        )
        step = trust_region.natural_step(
            gradient, product, config.kl_limit, config.num_conjugate_steps
        )

        def allowed(tried: Float[Array, "P"]) -> Bool[Array, ""]:
            is_near = kl(tried) <= config.kl_limit
            if not config.constrained:
                return is_near
            limit = jnp.maximum(config.accident_limit, state.accident_value)
            return is_near & (state.accident_value + surrogates(tried)[1] <= limit)

        line = trust_region.backtrack(
            params, step, allowed, config.backtracking, config.num_backtracks
        )
        new, accepted = line.params, line.accepted
        actor = state.actor._replace(params=unravel(new))
    else:
        actor = state.actor.step(unravel(-gradient), config.policy_learning_rate)
        new, accepted = ravel_pytree(actor.params)[0], jnp.asarray(True)
    excess = state.accident_value + surrogates(new)[1] - config.accident_limit
    multiplier = raised_multiplier(config, state.multiplier, excess)
    state = state._replace(
        actor=actor,
        multiplier=multiplier if config.constrained else state.multiplier,
    )
    return state, {
        "policy/kl": kl(new),
        "policy/accepted": accepted.astype(jnp.float32),
        "policy/std": jnp.mean(jnp.exp(actor.params["log_std"])),
        "policy/multiplier": state.multiplier,
    }


def raised_multiplier(
    config: SafetyConfig, multiplier: Float[Array, ""], excess: Float[Array, ""]
) -> Float[Array, ""]:
    """λ ← [ λ + lr · excess ]_+ with the excess of accidents over χ."""
    return jnp.maximum(multiplier + config.multiplier_learning_rate * excess, 0.0)


def _critic_phase(
    config: SafetyConfig, state: SafetyState, key: Key, num_steps: int
) -> tuple[SafetyState, Metrics]:
    actor = state.actor.params

    def step(critic: AccidentCritic, key: Key) -> tuple[AccidentCritic, Metrics]:
        batch_key, here_key, next_key, uniform_key = jax.random.split(key, 4)
        batch = replay.sample(state.replay, batch_key, config.batch_size)
        here, there = (
            jnp.clip(_draws(policy_of(config, actor, x), k, config.num_policy_actions), -1, 1)
            for x, k in ((batch.observation, here_key), (batch.next_observation, next_key))
        )
        return critic_step(
            config, critic, batch, policy_action=here, next_action=there, key=uniform_key
        )

    keys = jax.random.split(key, num_steps)
    critic, metrics = jax.lax.scan(step, state.critic, keys)
    return state._replace(critic=critic), jax.tree.map(jnp.mean, metrics)


def _value_phase(
    config: SafetyConfig,
    state: SafetyState,
    rollout: Rollout,
    target: Float[Array, "B"],
    key: Key,
) -> tuple[SafetyState, Metrics]:
    """V on batches of (s, A + V_old(s))."""
    observation = flat(rollout.observation)

    def loss(value: Any, index: Int[Array, "b"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        error = jnp.mean(jnp.square(value_of(config, value, observation[index]) - target[index]))
        return error, error

    def step(value: Trainable, key: Key) -> tuple[Trainable, Array]:
        index = jax.random.randint(key, (config.batch_size,), 0, target.shape[0])
        return value.minimize(lambda value: loss(value, index), config.value_learning_rate)

    keys = jax.random.split(key, config.num_value_steps)
    value, errors = jax.lax.scan(step, state.value, keys)
    return state._replace(value=value), {"value/loss": jnp.mean(errors)}


def _threshold(config: SafetyConfig, state: SafetyState) -> Float[Array, ""]:
    return shield.threshold(config.accident_limit, state.accident_value, config.accident_discount)


def _clipped_q(
    config: SafetyConfig,
    state: SafetyState,
    observation: Float[Array, "B O"],
    action: Float[Array, "B N A"],
) -> Float[Array, "B N"]:
    q = accident_q(config, state.critic.network.params, observation, jnp.clip(action, -1.0, 1.0))
    return jnp.clip(q, 0.0, 1.0) if config.clip_accidents else q


def _draws(policy: Gaussian, key: Key, num: int) -> Float[Array, "B N A"]:
    """Actions before they are clipped, whose densities are the Gaussian's."""
    batch, size = policy.mean.shape
    noise = jax.random.normal(key, (batch, num, size))
    return policy.mean[:, None] + jnp.exp(policy.log_std)[:, None] * noise


def _log_probs(policy: Gaussian, action: Float[Array, "B N A"]) -> Float[Array, "B N"]:
    return Gaussian(policy.mean[:, None], policy.log_std[:, None]).log_prob(action)
