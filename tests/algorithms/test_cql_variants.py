"""Every kind of CQL against its equations in NumPy, its limits, and short trainings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.algorithms.common import soft_actor_critic
from offrl_jax.algorithms.common.cql_variants import (
    actor_loss,
    multiplier_loss,
    with_reference_returns,
)
from offrl_jax.algorithms.common.soft_actor_critic import Context, policy_of
from offrl_jax.algorithms.cql import (
    Candidates,
    CQLConfig,
    CQLContext,
    candidate_actions,
    critic_loss,
    penalty,
)
from offrl_jax.data import dataset_from_arrays
from offrl_jax.networks.modules import MLP
from tests.arrays import random_dataset
from tests.few import few
from tests.networks.test_modules import numpy_critics

CQL, SAC = ALGORITHMS["cql"], ALGORITHMS["sac"]
VARIANTS = ("h", "rho", "author_v2", "v2", "v1")
DATASET = random_dataset()
KEY = jax.random.key(3)
BATCH = jax.tree.map(lambda x: x[:4], DATASET.transitions)
SMALL = {
    "actor_network": MLP((8,)),
    "critic_network": MLP((8, 8)),
    "num_critics": 2,
    "num_sampled_actions": 2,
    "batch_size": 8,
    "conservative_weight": 2.5,
    "lagrange_threshold": 1.5,
    "initial_log_multiplier": 0.4,
    "initial_temperature": 0.3,
}
update = jax.jit(CQL.update)


def configured(**settings):
    return CQLConfig(**SMALL | settings)


def started(config):
    """A state whose parameters are not those of a fresh start, on which critics agree."""
    state = CQL.init(config, DATASET.spec, jax.random.key(0))
    louder = jax.tree.map(lambda x: 2.0 * x, state.agent.critic.params)
    louder["members"]["head"]["bias"] += jnp.array([[0.5], [-0.3]])
    return with_critic(state, louder)


def with_critic(state, critic):
    agent = state.agent._replace(critic=state.agent.critic._replace(params=critic))
    return state._replace(agent=agent)


def drawn(config, state, key=KEY):
    policy, next_policy = (
        policy_of(config, state.agent.actor.params, x)
        for x in (BATCH.observation, BATCH.next_observation)
    )
    return candidate_actions(config, Context(BATCH, None, policy, next_policy, key))


def penalty_of(config, q, q_data, log_density, returns):
    """`penalty` of candidates with these log-densities, whose actions it does not look at."""
    candidates = Candidates(jnp.zeros((*q.shape[1:], 3)), log_density)
    batch = BATCH._replace(return_to_go=returns)
    return penalty(config, q, q_data, CQLContext(batch, None, candidates, None))


# --- The whole critic loss by loops


def of_a_policy(config, j):
    """Whether candidate j is a policy's: the first N of all three sources are uniform."""
    if config.variant in ("h", "author_v2"):
        return j >= config.num_sampled_actions
    return config.penalty_actions == "policy"


def numpy_loss(config, critic, log_multiplier, batch, target, candidates):
    """Σ_k mean_b (Q_k − y)² + w Δ_k, or α′ times what exceeds τ; (loss, mean penalty)."""
    weight, heat = config.conservative_weight, config.penalty_temperature
    num_rows, num_candidates = candidates.log_density.shape
    loss, penalties = 0.0, []
    of_data = numpy_critics(critic, batch.observation, batch.action)
    of_candidates = numpy_critics(critic, batch.observation, candidates.action)
    for k in range(2):
        error, gap = 0.0, 0.0
        for b in range(num_rows):
            q_data = of_data[k, b]
            error += (q_data - target[b]) ** 2 / num_rows
            at = []
            for j in range(num_candidates):
                q = of_candidates[k, b, j]
                if config.calibrated and of_a_policy(config, j):
                    q = max(q, batch.return_to_go[b])
                at.append(q)
            if config.variant == "h":
                weighted = zip(at, candidates.log_density[b], strict=True)
                down = heat * np.log(sum(np.exp((q - d) / heat) for q, d in weighted))
                if config.subtract_log_samples:
                    down -= heat * np.log(num_candidates)
            elif config.variant == "rho":
                down = heat * np.log(sum(np.exp(q / heat) for q in at) / num_candidates)
            elif config.variant == "author_v2":
                down = heat * np.log(sum(np.exp(q / heat) for q in [*at, q_data]))
            else:
                down = sum(at) / num_candidates
            difference = down if config.variant == "v1" else down - q_data
            difference = max(config.min_difference, min(config.max_difference, difference))
            gap += difference / num_rows
        multiplier = min(np.exp(log_multiplier), 1e6) if config.lagrange != "off" else None
        loss += error
        if config.lagrange == "off":
            loss += weight * gap
        elif config.lagrange == "authors":
            loss += multiplier * (weight * gap - config.lagrange_threshold)
        else:
            loss += multiplier * weight * (gap - config.lagrange_threshold)
        penalties.append(gap)
    return loss, np.mean(penalties)


def in_numpy(tree):
    wide = jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, wide)


CASES = [{"variant": v, "lagrange": m} for v in VARIANTS for m in ("off", "authors", "jaxcql")]
CASES += [{"variant": v, "calibrated": True} for v in VARIANTS]
CASES += [
    {"variant": "v2", "calibrated": True, "penalty_actions": "uniform"},
    {"variant": "h", "subtract_log_samples": True, "penalty_temperature": 0.7},
    {"variant": "rho", "penalty_temperature": 1.8, "penalty_actions": "uniform"},
    {"variant": "author_v2", "penalty_temperature": 0.5},
    {"variant": "h", "min_difference": 3.2, "max_difference": 3.6, "lagrange": "authors"},
]


def named(case):
    return "-".join(str(x) for x in case.values())


@pytest.mark.parametrize("case", CASES, ids=named)
def test_critic_loss_equals_a_derivation_in_numpy(case):
    config = configured(**case)
    state = started(config)
    candidates = drawn(config, state)
    batch = BATCH._replace(return_to_go=jnp.array([0.1, -0.4, 0.9, -2.0]))
    target = jnp.array([0.3, -1.1, 0.8, 2.0])
    log_multiplier = None if state.multiplier is None else state.multiplier.params
    critic = state.agent.critic.params
    context = CQLContext(batch, target, candidates, log_multiplier)
    loss, metrics = critic_loss(config, critic, context)
    expected, expected_penalty = numpy_loss(
        config, *in_numpy((critic, jnp.float32(0.4), batch, target, candidates))
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["critic/penalty"]) == pytest.approx(expected_penalty, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "case",
    [
        {"variant": "h", "calibrated": True},
        {"variant": "author_v2"},
        {"variant": "v1"},
    ],
    ids=named,
)
def test_one_update_follows_the_slopes_of_the_numpy_loss(case):
    """A whole update, g by central differences: Adam's first moment is 0.1 g; its step follows."""
    config = configured(**case)
    state = started(config)
    actor_key, next_key, critic_key = jax.random.split(KEY, 3)
    del actor_key
    next_policy = policy_of(config, state.agent.actor.params, BATCH.next_observation)
    next_action, _ = next_policy.sample_and_log_prob(next_key)
    candidates = drawn(config, state, critic_key)
    critic, target_critic, batch, candidates, next_action = in_numpy(
        (state.agent.critic.params, state.agent.target_critic, BATCH, candidates, next_action)
    )
    next_value = numpy_critics(target_critic, batch.next_observation, next_action).min(0)
    target = batch.reward + config.discount * (1 - batch.terminal) * next_value

    new, metrics = update(config, state, BATCH, KEY)
    expected, _ = numpy_loss(config, critic, 0.4, batch, target, candidates)
    assert float(metrics["critic/loss"]) == pytest.approx(expected, rel=1e-5)
    moments = in_numpy(new.agent.critic.opt_state[0].mu)
    updated = in_numpy(new.agent.critic.params)

    rng = np.random.default_rng(0)
    num_sloped = 0
    for leaf, moment, after in zip(
        jax.tree.leaves(critic), jax.tree.leaves(moments), jax.tree.leaves(updated), strict=True
    ):
        for flat in rng.choice(leaf.size, min(leaf.size, 3), replace=False):
            index, before, losses = np.unravel_index(flat, leaf.shape), leaf.flat[flat], []
            for step in (1e-5, -1e-5):
                leaf[index] = before + step
                losses.append(numpy_loss(config, critic, 0.4, batch, target, candidates)[0])
            leaf[index] = before
            slope = (losses[0] - losses[1]) / 2e-5
            assert moment[index] / 0.1 == pytest.approx(slope, rel=1e-3, abs=1e-4)
            adam = config.critic_learning_rate * slope / (abs(slope) + 1e-8)
            if abs(slope) > 1e-3:
                num_sloped += 1
                assert after[index] == pytest.approx(before - adam, abs=1e-6)
    assert num_sloped >= 5


# --- Limits


@pytest.mark.parametrize("variant", VARIANTS)
def test_adding_a_constant_to_q_changes_no_penalty_but_eq_1s(variant):
    config = configured(variant=variant, penalty_temperature=0.7)
    q = jax.random.normal(jax.random.key(1), (2, 4, 5))
    q_data = jax.random.normal(jax.random.key(2), (2, 4))
    rest = q[0] / 3, jnp.zeros(4)
    shift = penalty_of(config, q + 7.0, q_data + 7.0, *rest) - penalty_of(config, q, q_data, *rest)
    np.testing.assert_allclose(shift, [7.0 * (variant == "v1")] * 2, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ensemble_members_never_mix(variant):
    config = configured(variant=variant, calibrated=True)
    q = jax.random.normal(jax.random.key(1), (3, 4, 5)) * jnp.array([1, 5, 0.2])[:, None, None]
    q_data = jax.random.normal(jax.random.key(2), (3, 4))
    rest = q[0] / 3, jnp.linspace(-1.0, 1.0, 4)
    together = penalty_of(config, q, q_data, *rest)
    assert together.shape == (3,)
    for k in range(3):
        alone = penalty_of(config, q[k : k + 1], q_data[k : k + 1], *rest)
        np.testing.assert_allclose(together[k], alone[0], rtol=1e-5)


@functools.cache
def sac_step():
    names = {f.name for f in dataclasses.fields(SAC.Config)} & set(SMALL)
    settings = {"backup": "deterministic", "actor_learning_rate": 1e-4}
    config = SAC.Config(**{n: SMALL[n] for n in names}, **settings)
    state = SAC.init(config, DATASET.spec, KEY)
    return jax.jit(SAC.update)(config, state, BATCH, KEY)[0].agent


WITHOUT_WEIGHT = [
    *({"variant": v} for v in VARIANTS),
    {"variant": "h", "lagrange": "authors"},
    {"variant": "h", "lagrange": "jaxcql"},
]


@pytest.mark.parametrize(
    "case", few({named(x): x for x in WITHOUT_WEIGHT}, [named(WITHOUT_WEIGHT[-2])])
)
def test_without_weight_cql_is_sac(case):
    config = configured(**case, conservative_weight=0.0)
    state, _ = update(config, CQL.init(config, DATASET.spec, KEY), BATCH, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.agent, sac_step())


# --- The multiplier


@pytest.mark.parametrize(
    ("lagrange", "weight", "threshold", "gap", "rises"),
    [
        ("authors", 5.0, 3.0, 1.0, True),  # 5 · 1 − 3 > 0
        ("jaxcql", 5.0, 3.0, 1.0, False),  # 5 · (1 − 3) < 0
        ("authors", 0.1, 1.0, 3.0, False),  # 0.1 · 3 − 1 < 0
        ("jaxcql", 0.1, 1.0, 3.0, True),  # 0.1 · (3 − 1) > 0
    ],
)
def test_the_multiplier_rises_above_its_threshold_and_falls_below(
    lagrange, weight, threshold, gap, rises
):
    config = configured(lagrange=lagrange, conservative_weight=weight, lagrange_threshold=threshold)
    loss, gradient = jax.value_and_grad(multiplier_loss, argnums=1)(
        config, jnp.float32(0.5), jnp.array([gap - 0.2, gap + 0.2])
    )
    assert (-gradient > 0) == rises
    excess = weight * gap - threshold if lagrange == "authors" else weight * (gap - threshold)
    assert float(loss) == pytest.approx(-np.exp(0.5) * excess, rel=1e-5)
    assert float(gradient) == pytest.approx(-np.exp(0.5) * excess, rel=1e-5)


def test_the_multiplier_stops_at_a_million_and_can_come_back():
    config = configured(lagrange="authors", multiplier_learning_rate=100.0, lagrange_threshold=-1e3)
    state, _ = update(config, started(config), BATCH, KEY)
    assert float(jnp.exp(state.multiplier.params)) == pytest.approx(1e6, rel=1e-4)
    lenient = dataclasses.replace(config, lagrange_threshold=1e3)
    gradient = jax.grad(multiplier_loss, argnums=1)(lenient, state.multiplier.params, jnp.ones(2))
    assert gradient > 1e6


def test_the_penalty_gets_no_gradient_from_the_multipliers_loss():
    config = configured(lagrange="jaxcql")
    gradient = jax.grad(multiplier_loss, argnums=2)(config, jnp.float32(0.5), jnp.ones(2))
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("lagrange", ["authors", "jaxcql"])
def test_the_multiplier_takes_adams_steps_on_its_closed_form_gradient(lagrange):
    """g = −α′ · excess of the critics' mean penalty, both before the step; three steps."""
    config = configured(lagrange=lagrange, multiplier_learning_rate=0.1)
    state = started(config)
    expected, first, second = 0.4, 0.0, 0.0
    for t in range(1, 4):
        state, metrics = update(config, state, BATCH, jax.random.fold_in(KEY, t))
        assert float(metrics["critic/multiplier"]) == pytest.approx(np.exp(expected), rel=1e-4)
        gap = float(metrics["critic/penalty"])
        excess = 2.5 * gap - 1.5 if lagrange == "authors" else 2.5 * (gap - 1.5)
        gradient = -np.exp(expected) * excess
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9**t), np.sqrt(second / (1 - 0.999**t)) + 1e-8
        expected -= 0.1 * unbiased[0] / unbiased[1]
        assert float(state.multiplier.params) == pytest.approx(expected, rel=1e-3)
        moment = float(state.multiplier.opt_state[0].mu)
        assert moment == pytest.approx(first, rel=1e-3)


def test_without_lagrange_there_is_no_multiplier():
    config = configured()
    state = CQL.init(config, DATASET.spec, KEY)
    assert state.multiplier is None
    state, metrics = update(config, state, BATCH, KEY)
    assert state.multiplier is None
    assert "critic/multiplier" not in metrics


# --- Warm-up


def test_the_warm_up_clones_and_does_not_look_at_q():
    config = configured(num_warmup_steps=3)
    agent = started(config).agent
    critic, actor = agent.critic.params, agent.actor.params
    louder = jax.tree.map(lambda x: 3.0 * x, critic)

    def cloning(actor):
        policy = policy_of(config, actor, BATCH.observation)
        _, log_prob = policy.sample_and_log_prob(KEY)
        return jnp.mean(0.3 * log_prob - policy.log_prob(BATCH.action))

    def slopes_of(loss):
        def of_actor(step, critic):
            state = agent._replace(step=step, critic=agent.critic._replace(params=critic))
            return jax.value_and_grad(lambda x: loss(config, x, state, BATCH, KEY)[0])(actor)

        return jax.jit(of_actor)

    slopes, plain = slopes_of(actor_loss), slopes_of(soft_actor_critic.actor_loss)

    def assert_close(actual, expected):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
        )

    expected = jax.jit(jax.value_and_grad(cloning))(actor)
    for step in (0, 2):
        for q in (critic, louder):
            assert_close(slopes(jnp.int32(step), q), expected)
    for q in (critic, louder):
        assert_close(slopes(jnp.int32(3), q), plain(jnp.int32(3), q))
    assert not np.allclose(slopes(jnp.int32(3), louder)[0], slopes(jnp.int32(3), critic)[0])


# --- Difference clip


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_difference_is_clipped_sample_by_sample_before_the_mean(variant):
    """Three states, whose penalties lie between, below and above the bounds of ±200."""
    config = configured(variant=variant, min_difference=-200.0, max_difference=200.0)
    level = jnp.array([5.0, -900.0, 900.0])
    q = jnp.broadcast_to(level[None, :, None], (1, 3, 4))
    q_data = jnp.broadcast_to(jnp.where(variant == "author_v2", 0.0, 1.0), (1, 3))

    def total(q, q_data):
        return penalty_of(config, q, q_data, jnp.zeros((3, 4)), jnp.zeros(3))[0]

    value, (down, up) = jax.value_and_grad(total, argnums=(0, 1))(q, q_data)
    if variant != "author_v2":  # whose sum holds the data's own value, so it is never far below
        inside = {"h": 5 + np.log(4) - 1, "v1": 5.0}.get(variant, 4.0)
        assert value == pytest.approx((inside - 200 + 200) / 3, rel=1e-5)
        np.testing.assert_array_equal(down[0, 1], 0.0)
        np.testing.assert_array_equal(up[0, 1], 0.0)
    np.testing.assert_array_equal(down[0, 2], 0.0)
    np.testing.assert_array_equal(up[0, 2], 0.0)
    assert down[0, 0].sum() > 0.3
    if variant != "v1":
        assert up[0, 0] < -0.3


# --- Cal-QL


def test_returns_of_minus_infinity_calibrate_nothing():
    """Bit for bit, the parameters after a whole update too."""
    batch = BATCH._replace(return_to_go=jnp.full(4, -1e9))
    states = []
    for calibrated in (False, True):
        config = configured(calibrated=calibrated)
        states.append(update(config, started(config), batch, KEY))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_high_returns_stop_the_push_on_the_policys_actions_only():
    config = configured(calibrated=True)
    q = jax.random.normal(jax.random.key(1), (2, 4, 6))

    def total(q, returns):
        return penalty_of(config, q, jnp.zeros((2, 4)), jnp.zeros((4, 6)), returns).sum()

    slope = jax.grad(total)(q, jnp.full(4, 5.0))
    np.testing.assert_array_equal(slope[..., 2:], 0.0)
    assert (slope[..., :2] > 0).all()
    at_floor = np.exp(5.0) * 4
    weight = np.exp(np.asarray(q[..., :2]))
    expected = weight / (weight.sum(-1, keepdims=True) + at_floor) / 4
    np.testing.assert_allclose(slope[..., :2], expected, rtol=1e-4)
    assert (jax.grad(total)(q, jnp.full(4, -5.0)) > 0).all()


def test_the_floor_comes_before_the_density():
    """max(Q, V) − log π, not max(Q − log π, V): one policy action with Q 1, V 2, log π −3."""
    config = configured(calibrated=True, num_sampled_actions=1)
    q = jnp.array([[[-1e6, 1.0]]])  # the first is of a uniform action
    value = penalty_of(config, q, jnp.zeros((1, 1)), jnp.full((1, 2), -3.0), jnp.array([2.0]))
    assert value[0] == pytest.approx(5.0, rel=1e-6)


def reference_returns(reward, terminal, truncation, **settings):
    n = len(reward)
    dataset = dataset_from_arrays(
        np.zeros((n, 2)),
        np.zeros((n, 1)),
        np.asarray(reward, float),
        np.asarray(terminal),
        timeout=np.asarray(truncation),
        next_observation=np.zeros((n, 2)),
    )
    config = configured(calibrated=True, **settings)
    _, relabelled = with_reference_returns(config, None, dataset)
    return np.asarray(relabelled.transitions.return_to_go)


# Constant −5 until a cut; then a success at a true end.
EPISODES = [-5.0] * 4 + [-5.0, -5.0, 5.0], [0] * 6 + [1], [0, 0, 0, 1, 0, 0, 0]


def test_a_cut_episode_goes_on_with_its_last_reward_if_so_configured():
    """r_fail / (1 − γ) = −50 at every step; a true end is never continued."""
    returns = reference_returns(*EPISODES, cut_return="last_reward", discount=0.9)
    np.testing.assert_allclose(returns[:4], -50.0, rtol=1e-5)
    ended = [-5 - 0.9 * 5 + 0.81 * 5, -5 + 0.9 * 5, 5.0]
    np.testing.assert_allclose(returns[4:], ended, rtol=1e-5)


def test_or_else_ends_with_the_cut():
    returns = reference_returns(*EPISODES, cut_return="zero", discount=0.9)
    cut = [-5 * (1 - 0.9**n) / 0.1 for n in (4, 3, 2, 1)]
    ended = [-5 - 0.9 * 5 + 0.81 * 5, -5 + 0.9 * 5, 5.0]
    np.testing.assert_allclose(returns, cut + ended, rtol=1e-5)


def test_returns_without_discount_are_finite():
    returns = reference_returns(*EPISODES, cut_return="last_reward", discount=1.0)
    np.testing.assert_allclose(returns[:4], [-5e4 - 5 * n for n in (4, 3, 2, 1)], rtol=1e-5)
    np.testing.assert_allclose(returns[4:], [-5.0, 0.0, 5.0], atol=1e-5)


# --- Training

COVERING = [
    {
        "variant": "h",
        "lagrange": "authors",
        "backup": "max_min",
        "calibrated": True,
        "cut_return": "last_reward",
        "num_warmup_steps": 1,
    },
    {"variant": "rho", "lagrange": "jaxcql", "backup": "min_max", "penalty_actions": "uniform"},
    {"variant": "author_v2", "lagrange": "off", "backup": "entropy", "calibrated": True},
    {"variant": "v2", "lagrange": "authors", "backup": "mean_action"},
    {"variant": "v1", "lagrange": "jaxcql", "backup": "deterministic"},
]


@pytest.mark.parametrize("case", few({named(x): x for x in COVERING}, [named(COVERING[0])]))
def test_every_kind_trains(case):
    config = configured(num_backup_actions=3, **case)
    first = init(CQL, config, DATASET.spec, KEY)
    before = jax.tree.map(jnp.copy, first)
    state, metrics = learn(CQL, config, DATASET, first, KEY, num_steps=2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, state)
    assert all(jax.tree.leaves(moved)), moved
    assert ("critic/multiplier" in metrics) == (config.lagrange != "off")


def test_training_can_be_resumed():
    """With a multiplier, a warm-up and relabelled returns."""
    config = configured(num_backup_actions=3, **COVERING[0])
    half, whole = (init(CQL, config, DATASET.spec, KEY) for _ in range(2))
    for _ in range(2):
        half, _ = learn(CQL, config, DATASET, half, KEY, num_steps=2)
    whole, _ = learn(CQL, config, DATASET, whole, KEY, num_steps=4)
    jax.tree.map(np.testing.assert_array_equal, half, whole)


@pytest.mark.slow
def test_training_compares_with_the_returns_of_its_own_discount():
    """The learner relabels: returns that were in the dataset before make no difference."""
    config = configured(num_backup_actions=3, discount=0.5, **COVERING[2])
    rows = DATASET.transitions._replace(return_to_go=jnp.full(len(DATASET), 1e3))
    changed = dataclasses.replace(DATASET, transitions=rows)
    states = []
    for dataset in (DATASET, changed):
        state = init(CQL, config, DATASET.spec, KEY)
        states.append(learn(CQL, config, dataset, state, KEY, num_steps=2))
    jax.tree.map(np.testing.assert_array_equal, *states)
