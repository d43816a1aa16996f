"""The accident critic's losses: on tables where they end is known, and through a network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from offrl_jax.safety.critic import (
    _pushable,
    accident_q,
    accident_target,
    bellman_loss,
    conservative_penalty,
    critic_loss,
    critic_step,
    init_accident_critic,
)
from offrl_jax.safety.replay import Experience
from offrl_jax.safety.settings import SafetyConfig
from offrl_jax.types import Spec
from tests import finite

POLICY, BEHAVIOR = (1, 6, 3), (5, 3, 2)  # of ten rows each
ALPHA = 0.03
CONFIG = SafetyConfig(hidden_sizes=(8,), num_policy_actions=3, accident_discount=0.9)
SPEC = Spec(2, 1, (-1.0,), (1.0,))


def rows(counts):
    return np.repeat(np.arange(len(counts)), counts)


def minimum(mdp, cost, form, alpha, policy=POLICY, behavior=BEHAVIOR):
    """Where the losses' gradient leads a table, the data and π's actions being exact."""
    states = cost.shape[0]
    pi = jnp.tile(jnp.array(policy) / sum(policy), (states, 1))
    data, drawn = rows(behavior), rows(policy)
    state = jnp.repeat(jnp.arange(states), len(data))
    action = jnp.tile(data, states)

    def loss(q, old):
        target = cost + mdp.discount * mdp.successors() @ tabular.policy_mean(pi, old)
        return bellman_loss(q[state, action], target[state, action]) + alpha * conservative_penalty(
            form, q[state, action], q[state][:, drawn], q[state]
        )

    def step(q, _):
        return q - states * jax.grad(loss)(q, q), None

    return jax.lax.scan(step, jnp.zeros(cost.shape), None, length=1500)[0]


def problem(seed):
    mdp = finite.random_mdp(seed)
    failing = jnp.asarray(np.random.default_rng(seed).uniform(0, 0.3, mdp.reward.shape))
    mdp = mdp._replace(terminal=failing + (1 - failing) * mdp.terminal)
    tables = (jnp.tile(jnp.array(x) / sum(x), (finite.NUM_STATES, 1)) for x in (POLICY, BEHAVIOR))
    return mdp, failing, *tables


@pytest.mark.parametrize(
    ("form", "tabular_form"),
    [("value", "value"), ("pointwise", "pointwise"), ("ordinary", "lecture")],
)
def test_the_losses_end_where_the_closed_form_says(form, tabular_form):
    with jax.enable_x64(True):
        mdp, cost, policy, behavior = problem(0)
        found = minimum(mdp, cost, form, ALPHA)
        exact = tabular.conservative_accident_critic(
            mdp, cost, policy, behavior, ALPHA, form=tabular_form
        )
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9)
        true = tabular.accident_value(mdp, cost, policy)
        excess = tabular.policy_mean(policy, found - true)
        assert (excess < 0).all() if form == "ordinary" else (excess > 0).all()
        if form == "pointwise":
            assert (found > true).all()


def test_logsumexp_raises_what_looks_safe_and_lowers_the_data():
    """It holds that E_D [ log E e^{−Q} + Q ] ≥ 0 for one action, and is 0 for constant Q."""
    q = jnp.array([[0.2, 0.9]])
    slope_data, slope_policy, slope_uniform = jax.grad(conservative_penalty, argnums=(1, 2, 3))(
        "logsumexp", q[:, 0], q, q
    )
    assert float(slope_data[0]) == pytest.approx(1.0)
    total = slope_policy + slope_uniform
    softmin = jax.nn.softmax(-q)
    np.testing.assert_allclose(total, -softmin, rtol=1e-5)
    assert total[0, 0] < total[0, 1] < 0  # the safe-looking one is raised most
    constant = jnp.full((1, 2), 0.4)
    assert float(
        conservative_penalty("logsumexp", constant[:, 0], constant, constant)
    ) == pytest.approx(0.0, abs=1e-6)


def test_the_counter_example_of_single_actions_and_its_repair():
    """π = .1/.9, β = ½/½, α = .03: shifts of −.024 and +.024; pointwise both go up."""
    with jax.enable_x64(True):
        bandit = finite.two_action_bandit()
        cost = jnp.array([[0.5, 0.2]])
        value, pointwise, ordinary = (
            minimum(bandit, cost, form, 0.03, (1, 9), (1, 1)) - cost
            for form in ("value", "pointwise", "ordinary")
        )
        np.testing.assert_allclose(value, [[-0.024, 0.024]], atol=1e-9)
        np.testing.assert_allclose(pointwise, [[0.03, 0.03]], atol=1e-9)
        np.testing.assert_allclose(ordinary, -value, atol=1e-9)


def batch(n=64):
    rng = np.random.default_rng(0)
    flat = {k: jnp.asarray(rng.integers(0, 2, n), jnp.float32) for k in ("cost", "end")}
    return Experience(
        observation=jnp.asarray(rng.normal(size=(n, 2)), jnp.float32),
        action=jnp.asarray(rng.uniform(-1, 0, (n, 1)), jnp.float32),
        next_observation=jnp.asarray(rng.normal(size=(n, 2)), jnp.float32),
        cost=flat["cost"],
        terminal=jnp.maximum(flat["cost"], flat["end"]),
    )


def test_targets_stop_at_ends_and_stay_probabilities():
    rows = batch()
    next_q = jnp.full((64, 3), 5.0)
    loose = dataclasses.replace(CONFIG, clip_accidents=False)
    expected = rows.cost + 0.9 * (1 - rows.terminal) * 5.0
    np.testing.assert_allclose(accident_target(loose, rows, next_q), expected, rtol=1e-6)
    clipped = accident_target(CONFIG, rows, next_q)
    np.testing.assert_allclose(clipped, jnp.clip(expected, 0, 1), rtol=1e-6)
    assert not jax.grad(lambda q: accident_target(loose, rows, q).sum())(next_q).any()


@pytest.mark.parametrize("form", ["value", "ordinary", "pointwise"])
def test_a_network_moves_the_way_that_its_form_says(form):
    """The data act in [−1, 0], π in [0, 1]."""
    key = jax.random.key(0)
    config = dataclasses.replace(
        CONFIG, penalty=form, conservative_weight=0.1, critic_learning_rate=1e-2
    )
    plain = dataclasses.replace(config, conservative_weight=0.0)
    rows, moved = batch(), {}
    rows = rows._replace(cost=rows.cost * 0 + 0.5, terminal=jnp.ones(64))
    policy_action = jnp.asarray(np.random.default_rng(1).uniform(0.3, 1, (64, 3, 1)), jnp.float32)
    for name, settings in (("with", config), ("without", plain)):
        critic = init_accident_critic(settings, SPEC, key)
        step = jax.jit(
            lambda critic, key, settings=settings: critic_step(
                settings,
                critic,
                rows,
                policy_action=policy_action,
                next_action=policy_action,
                key=key,
            )
        )
        for i in range(150):
            critic, _ = step(critic, jax.random.fold_in(key, i))
        q = accident_q(config, critic.network.params, rows.observation, policy_action)
        q_data = accident_q(config, critic.network.params, rows.observation, rows.action)
        moved[name] = np.array([q.mean(), q_data.mean()])
        equal = jax.tree.map(np.allclose, critic.target_network, critic.network.params)
        assert not any(jax.tree.leaves(equal))
    shift_policy, shift_data = moved["with"] - moved["without"]
    if form == "ordinary":
        assert shift_policy < -0.05 and shift_data > 0.01
    else:
        assert shift_policy > 0.05
        assert (shift_data < -0.01) if form == "value" else (shift_data > 0)


def test_the_loss_has_no_gradient_in_its_target():
    critic = init_accident_critic(CONFIG, SPEC, jax.random.key(0))
    actions = jnp.zeros((64, 3, 1))
    slope = jax.grad(
        lambda target: critic_loss(
            CONFIG,
            critic.network.params,
            batch(),
            target_critic=target,
            policy_action=actions,
            next_action=actions,
            key=jax.random.key(1),
        )[0]
    )(critic.target_network)
    assert not any(leaf.any() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("form", "raised", "lowered"),
    [("value", 1, 0), ("pointwise", 2, None), ("logsumexp", 1, 0), ("ordinary", 0, 1)],
)
def test_the_penalty_pushes_into_the_range_of_probabilities_and_not_out_of_it(
    form, raised, lowered
):
    """Of q_data, q_policy and q_uniform, which is raised up to 1 and which lowered down to 0."""

    def push(value):
        def penalty(*q):
            return conservative_penalty(form, *_pushable(config, *q))

        config = dataclasses.replace(CONFIG, penalty=form)
        q = jnp.full(1, value), jnp.full((1, 1), value), jnp.full((1, 1), value)
        return [float(x.sum()) for x in jax.grad(penalty, argnums=(0, 1, 2))(*q)]

    below, inside, above = push(-0.1), push(0.5), push(1.1)
    assert below[raised] == inside[raised] < 0 == above[raised]
    if lowered is not None:
        assert above[lowered] == inside[lowered] > 0 == below[lowered]


def test_a_form_that_is_none_is_no_other_one():
    with pytest.raises(KeyError):
        conservative_penalty("valeu", jnp.zeros(1), jnp.zeros((1, 1)), jnp.zeros((1, 1)))
