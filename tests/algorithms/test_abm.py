"""ABM against NumPy: the prior's weights, the actor's loss, the duals, a whole step, its KL."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.abm import (
    ABMConfig,
    actor_loss,
    dual_loss,
    prior_weight,
    softplus,
    softplus_inverse,
)
from offrl_jax.algorithms.common.advantage_weighted import policy_of
from offrl_jax.networks.heads import critic_values
from offrl_jax.networks.modules import MLP
from tests.algorithms.common.test_advantage_weighted import (
    BATCH,
    DATASET,
    S,
    adam,
    assert_close,
    numpy_actions,
    numpy_log_prob,
    numpy_moments,
    numpy_target,
    started,
)
from tests.arrays import bandit
from tests.networks.test_modules import filled, numpy_critics

ABM = ALGORITHMS["abm"]
KEY = jax.random.key(1)
NETWORK = MLP((8,))
CONFIG = ABMConfig(
    discount=0.9,
    policy="tanh_gaussian",
    num_baseline_samples=5,
    num_target_actions=4,
    num_critics=3,
    improvement_epsilon=0.2,
    trust_region=0.05,
    initial_temperature=0.7,
    initial_multiplier=1.5,
    dual_learning_rate=0.02,
    # Large, so that parameters before a step and after it are told apart.
    prior_learning_rate=0.03,
    actor_learning_rate=0.05,
    critic_learning_rate=0.1,
    target_update_rate=0.1,
    target_update_period=1,
    actor_network=NETWORK,
    critic_network=NETWORK,
)
RAW = {"temperature": np.log(np.expm1(0.7)), "multiplier": np.log(np.expm1(1.5))}
STATE = started(lambda: ABM.init(CONFIG, DATASET.spec, KEY))
STATE = STATE._replace(duals=STATE.duals._replace(params=jax.tree.map(jnp.float32, RAW)))
weigh = jax.jit(prior_weight)


def numpy_prior_weight(prior_advantage, baseline, agent, key):
    """1[A ≥ 0] with the value of the target policy under the target critics."""
    noise = jax.random.normal(key, (30, 5, 3))
    action = numpy_actions("tanh_gaussian", agent.target_actor, S, noise)
    q = numpy_critics(agent.target_critic, S, action).min(axis=0)
    value = {"mean": q.mean(axis=1), "max": q.max(axis=1)}[baseline]
    outcome = {
        "monte_carlo": np.asarray(BATCH.return_to_go),
        "critic": numpy_critics(agent.target_critic, S, BATCH.action).min(axis=0),
    }[prior_advantage]
    return (outcome >= value).astype(float)


def numpy_kl(policy, p, q):
    """KL(p‖q) of two actors' Gaussians at each state."""
    (mean_p, std_p), (mean_q, std_q) = (numpy_moments(policy, actor, S) for actor in (p, q))
    terms = np.log(std_q / std_p) + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    return terms.sum(axis=-1)


def numpy_improved(q, temperature):
    weight = np.exp(q / temperature)
    return weight / weight.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("prior_advantage", "baseline"),
    [("monte_carlo", "mean"), ("critic", "mean"), ("critic", "max")],
)
def test_the_prior_clones_actions_that_did_better_than_the_target_policy(prior_advantage, baseline):
    config = dataclasses.replace(CONFIG, prior_advantage=prior_advantage, baseline=baseline)
    expected = numpy_prior_weight(prior_advantage, baseline, STATE.agent, KEY)
    assert (2 if baseline == "max" else 5) < expected.sum() < 25
    np.testing.assert_array_equal(weigh(config, STATE.agent, BATCH, KEY), expected)


@pytest.mark.parametrize("prior_advantage", ["monte_carlo", "critic"])
def test_actions_as_good_as_the_policy_are_cloned(prior_advantage):
    """Critics of the value ½ everywhere, whose means are exact; returns at it and next to it."""
    critic = jax.tree.map(jnp.zeros_like, STATE.agent.target_critic)
    head = critic["members"]["head"]
    head["bias"] = jnp.full_like(head["bias"], 0.5)
    returns = jnp.tile(jnp.array([0.5, 0.5 - 1e-6, 0.5 + 1e-6]), 10)
    weight = weigh(
        dataclasses.replace(CONFIG, prior_advantage=prior_advantage),
        STATE.agent._replace(target_critic=critic),
        BATCH._replace(return_to_go=returns),
        KEY,
    )
    expected = {"monte_carlo": [1, 0, 1] * 10, "critic": [1] * 30}[prior_advantage]
    assert weight.tolist() == expected


def test_a_uniform_prior_clones_all_actions():
    config = dataclasses.replace(CONFIG, prior_weight="uniform")
    assert (weigh(config, STATE.agent, BATCH, KEY) == 1).all()


@pytest.mark.parametrize("policy", ["tanh_mean", "tanh_gaussian"])
def test_actor_loss_equals_a_derivation_in_numpy(policy):
    """−mean_b Σ_j w_j log π(a_j|s) + α mean_b KL(π̄‖π)."""
    config = dataclasses.replace(CONFIG, policy=policy)
    state = started(lambda: ABM.init(config, DATASET.spec, KEY))
    actor, target = (filled(state.prior.params, seed) for seed in (3, 4))
    raw = {"multiplier": jnp.float32(np.log(np.expm1(1.7)))}
    state = state._replace(
        agent=state.agent._replace(target_actor=target), duals=state.duals._replace(params=raw)
    )
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.9, 0.9, (30, 5, 3))
    weight = numpy_improved(rng.normal(size=(30, 5)), 1.0)
    log_prob = np.stack([numpy_log_prob(policy, actor, S, action[:, j]) for j in range(5)], axis=1)
    kl = numpy_kl(policy, target, actor).mean()
    assert abs(kl - numpy_kl(policy, actor, target).mean()) > 0.1
    arrays = {
        "action": jnp.asarray(action, jnp.float32),
        "weight": jnp.asarray(weight, jnp.float32),
    }
    loss, metrics = jax.jit(actor_loss)(config, actor, state, BATCH, **arrays)
    expected = -np.mean(np.sum(weight * log_prob, axis=1)) + 1.7 * kl
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["actor/shift_kl"]) == pytest.approx(kl, rel=1e-4)


def numpy_dual(raw_temperature, q, epsilon):
    """g(η) = η ε + η mean_b log mean_j e^{Q / η}, η = softplus(raw)."""
    temperature = np.log1p(np.exp(raw_temperature))
    log_mean = np.log(np.mean(np.exp(q / temperature), axis=1))
    return temperature * (epsilon + log_mean.mean())


@pytest.mark.parametrize("shift", [0.2, 0.01])
def test_the_temperature_minimises_the_dual_and_the_multiplier_holds_the_trust_region(shift):
    q = np.random.default_rng(0).normal(size=(30, 5))
    raw = {"temperature": -0.4, "multiplier": 0.3}
    (gradient, of_shift), _ = jax.grad(dual_loss, argnums=(1, 3), has_aux=True)(
        CONFIG, jax.tree.map(jnp.float32, raw), jnp.asarray(q, jnp.float32), jnp.float32(shift)
    )
    slope = (numpy_dual(-0.4 + 1e-5, q, 0.2) - numpy_dual(-0.4 - 1e-5, q, 0.2)) / 2e-5
    assert float(gradient["temperature"]) == pytest.approx(slope, rel=1e-3)
    # Descent raises the multiplier where the KL exceeds the trust region of 0.05.
    assert (gradient["multiplier"] < 0) == (shift > 0.05)
    sigmoid = 1 / (1 + np.exp(-0.3))
    assert float(gradient["multiplier"]) == pytest.approx(sigmoid * (0.05 - shift), rel=1e-3)
    assert of_shift == 0  # the actor pays for the KL in its own loss alone


@pytest.mark.parametrize("start", [1e-3, 0.7, 300.0])
def test_a_dual_starts_anywhere_without_overflow(start):
    raw = softplus_inverse(jnp.float32(start))
    assert float(softplus(raw)) == pytest.approx(start, rel=1e-3)


def test_the_duals_start_at_their_settings():
    fresh = init(ABM, CONFIG, DATASET.spec, KEY)
    for name, raw in RAW.items():
        assert float(fresh.duals.params[name]) == pytest.approx(raw, rel=1e-5)


def test_a_whole_step_equals_one_written_out():
    """Critics, prior, duals and actor, all from the same old parameters; then the targets."""
    agent = STATE.agent
    after, metrics = jax.jit(ABM.update)(CONFIG, STATE, BATCH, KEY)
    target_key, value_key, action_key = jax.random.split(KEY, 3)
    target = numpy_target("tanh_gaussian", agent.target_actor, agent.target_critic, target_key, 4)
    cloned = numpy_prior_weight("monte_carlo", "mean", agent, value_key)
    noise = jax.random.normal(action_key, (30, 5, 3))
    action = numpy_actions("tanh_gaussian", STATE.prior.params, S, noise)
    q = numpy_critics(agent.target_critic, S, action).min(axis=0)
    improved = numpy_improved(q, 0.7)
    kl = numpy_kl("tanh_gaussian", agent.target_actor, agent.actor.params).mean()
    improvement = np.mean(np.sum(improved * np.log(5 * improved), axis=1))
    assert float(metrics["actor/improvement_kl"]) == pytest.approx(improvement, rel=1e-3)
    assert float(metrics["actor/shift_kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(metrics["prior/weight"]) == pytest.approx(cloned.mean())

    target, cloned, action, improved, q = (
        jnp.asarray(x, jnp.float32) for x in (target, cloned, action, improved, q)
    )

    def critic_objective(critic):
        q = critic_values(NETWORK, critic, BATCH.observation, BATCH.action)
        return sum(jnp.mean((q[k] - target) ** 2) for k in range(3))

    def prior_objective(prior):
        log_prob = policy_of(CONFIG, prior, BATCH.observation).log_prob(BATCH.action)
        return -jnp.mean(cloned * log_prob)

    def actor_objective(actor):
        return actor_loss(CONFIG, actor, STATE, BATCH, action=action, weight=improved)[0]

    def dual_objective(duals):
        return dual_loss(CONFIG, duals, q, jnp.float32(kl))[0]

    critic = adam(critic_objective, agent.critic, 0.1)
    actor = adam(actor_objective, agent.actor, 0.05)
    prior = adam(prior_objective, STATE.prior, 0.03)
    duals = adam(dual_objective, STATE.duals, 0.02)
    target_actor, target_critic = (
        jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, *pair)
        for pair in ((agent.target_actor, actor.params), (agent.target_critic, critic.params))
    )
    agent = type(agent)(
        step=jnp.int32(1),
        actor=actor,
        target_actor=target_actor,
        critic=critic,
        target_critic=target_critic,
    )
    assert_close(after, type(STATE)(agent, prior, duals))
    assert after.step == 1


@pytest.mark.slow
def test_the_improvement_spends_its_epsilon_and_the_better_actions_are_taken():
    """At the dual's minimum KL(q‖prior) = ε exactly; a uniform prior over actions paid by 3a."""
    action = np.random.default_rng(0).uniform(-0.9, 0.9, (128, 1))
    dataset = bandit(action, 3 * action[:, 0])
    acted = []
    for epsilon in (0.05, 0.4):
        config = ABMConfig(
            prior_weight="uniform",
            improvement_epsilon=epsilon,
            trust_region=0.05,
            dual_learning_rate=0.03,
            prior_learning_rate=1e-2,
            actor_learning_rate=1e-2,
            critic_learning_rate=1e-2,
            target_update_rate=0.2,
            target_update_period=1,
            num_critics=1,
            actor_network=MLP((16,)),
            critic_network=MLP((16,)),
            batch_size=16,
        )
        state = init(ABM, config, dataset.spec, KEY)
        for _ in range(3):
            state, metrics = learn(ABM, config, dataset, state, KEY, num_steps=200)
        assert float(metrics["actor/improvement_kl"]) == pytest.approx(epsilon, rel=0.1)
        acted.append(float(jax.jit(ABM.act)(config, state, jnp.zeros((1, 2)), None)[0, 0]))
    assert 0.05 < acted[0] < acted[1] - 0.1
