"""Values, visits and optima of finite MDPs against repetition in NumPy; batches against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import tabular
from offrl_jax.types import InputError
from tests import finite

CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", [0, 1])
def test_a_policys_values_are_the_limit_of_its_backups(seed):
    mdp, policy = finite.random_mdp(seed), finite.random_policy(seed)
    q = finite.evaluated(mdp, policy)
    value = (np.asarray(policy) * q).sum(1)
    np.testing.assert_allclose(tabular.q_value(mdp, policy), q, **CLOSE)
    np.testing.assert_allclose(tabular.state_value(mdp, policy), value, **CLOSE)
    np.testing.assert_allclose(
        tabular.expected_return(mdp, policy), np.dot(mdp.initial, value), **CLOSE
    )
    np.testing.assert_allclose(tabular.policy_backup(mdp, policy, jnp.asarray(q)), q, **CLOSE)


def test_the_system_of_pairs_has_the_same_solution():
    mdp, policy = finite.random_mdp(0), finite.random_policy(0)
    pairs = tabular.pair_transition(mdp, policy)
    q = np.linalg.solve(np.eye(len(pairs)) - finite.DISCOUNT * pairs, mdp.reward.ravel())
    np.testing.assert_allclose(tabular.q_value(mdp, policy).ravel(), q, **CLOSE)


@pytest.mark.parametrize("ending", [0.0, 0.3])
def test_visits_are_the_discounted_sum_of_state_distributions(ending):
    mdp, policy = finite.random_mdp(2, ending), finite.random_policy(2)
    now, total, alive = np.asarray(mdp.initial), 0.0, 0.0
    P = np.asarray(tabular.state_transition(mdp, policy))
    for t in range(300):
        total = total + (1 - finite.DISCOUNT) * finite.DISCOUNT**t * now
        alive += (1 - finite.DISCOUNT) * finite.DISCOUNT**t * now.sum()
        now = now @ P
    visits = tabular.visitation(mdp, policy)
    np.testing.assert_allclose(visits, total, **CLOSE)
    np.testing.assert_allclose(visits.sum(), 1 if ending == 0 else alive, **CLOSE)
    assert (visits.sum() < 0.9) == (ending > 0)
    np.testing.assert_allclose(  # J = Σ d π r / (1 − γ)
        (visits[:, None] * policy * mdp.reward).sum() / (1 - finite.DISCOUNT),
        tabular.expected_return(mdp, policy),
        **CLOSE,
    )


@pytest.mark.parametrize("restricted", [False, True])
def test_optima_are_those_of_the_best_of_all_policies(restricted):
    mdp = finite.random_mdp(3)
    allowed = np.ones(mdp.reward.shape, bool)
    if restricted:
        best = np.asarray(tabular.q_iteration(mdp)).argmax(1)
        allowed[np.arange(finite.NUM_STATES), best] = False  # the data lack the best actions
    choices = [np.flatnonzero(row) for row in allowed]
    values = []
    for choice in np.stack(np.meshgrid(*choices), -1).reshape(-1, finite.NUM_STATES):
        values.append(tabular.state_value(mdp, jnp.eye(finite.NUM_ACTIONS)[choice]))
    best_value = np.max(values, axis=0)  # one policy is best at every state
    q = tabular.q_iteration(mdp, jnp.asarray(allowed) if restricted else None)
    expected = mdp.reward + finite.DISCOUNT * finite.next_mean(mdp, best_value)
    np.testing.assert_allclose(q, expected, **CLOSE)
    greedy = tabular.greedy_policy(q, jnp.asarray(allowed))
    assert not np.any(greedy[~allowed])
    np.testing.assert_allclose(tabular.state_value(mdp, greedy), best_value, **CLOSE)
    if not restricted:
        np.testing.assert_allclose(tabular.value_iteration(mdp), best_value, **CLOSE)


def test_where_no_action_is_allowed_all_are():
    q = jnp.array([[1.0, 2.0, 0.0], [5.0, 3.0, 4.0]])
    allowed = jnp.array([[False, False, False], [False, True, True]])
    np.testing.assert_array_equal(
        tabular.greedy_policy(q, allowed), [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    )


def test_a_terminal_self_loop_is_worth_its_reward():
    mdp = finite.random_mdp(0)
    mdp = mdp._replace(
        transition=mdp.transition.at[1].set(jnp.eye(finite.NUM_STATES)[1]),
        terminal=mdp.terminal.at[1].set(1.0),
    )
    policy = finite.random_policy(0)
    np.testing.assert_allclose(tabular.q_value(mdp, policy)[1], mdp.reward[1], **CLOSE)
    np.testing.assert_allclose(tabular.q_iteration(mdp)[1], mdp.reward[1], **CLOSE)
    onwards = mdp._replace(terminal=mdp.terminal.at[1].set(0.0))  # for ever: r / (1 − γ)
    expected = (policy * mdp.reward)[1].sum() / (1 - finite.DISCOUNT)
    np.testing.assert_allclose(tabular.state_value(onwards, policy)[1], expected, **CLOSE)


def test_without_discounted_future_one_update_is_enough():
    mdp = finite.random_mdp(0)._replace(discount=jnp.asarray(0.0))
    np.testing.assert_array_equal(tabular.q_iteration(mdp), mdp.reward)


OF_AN_MDP = {
    "q_value": lambda mdp, pi, beta: tabular.q_value(mdp, pi),
    "expected_return": lambda mdp, pi, beta: tabular.expected_return(mdp, pi),
    "visitation": lambda mdp, pi, beta: tabular.visitation(mdp, pi),
    "q_iteration": lambda mdp, pi, beta: tabular.q_iteration(mdp),
    "cql_v2": lambda mdp, pi, beta: tabular.cql_v2(mdp, pi, beta, 0.3),
    "cql_h": lambda mdp, pi, beta: tabular.cql_h(mdp, beta, 0.3),
    "brac_v": lambda mdp, pi, beta: tabular.brac_v(mdp, pi, tabular.kl(pi, beta), 0.3),
    "kl_control": lambda mdp, pi, beta: tabular.kl_control(mdp, beta, 0.3),
    "chi_squared_control": lambda mdp, pi, beta: tabular.chi_squared_control(mdp, beta, 0.3),
    "safety": lambda mdp, pi, beta: tabular.conservative_accident_critic(
        mdp, abs(mdp.reward), pi, beta, 0.3
    ),
    "discor": lambda mdp, pi, beta: tabular.discor_weight(
        mdp, pi, tabular.accumulated_error(mdp, pi, mdp.reward), 2.0
    ),
}


@pytest.mark.parametrize("name", OF_AN_MDP)
def test_a_batch_of_mdps_is_a_loop_over_them(name):
    """In one compiled program."""
    function = jax.jit(OF_AN_MDP[name])
    mdps = [finite.random_mdp(seed) for seed in range(3)]
    policies = [finite.random_policy(seed) for seed in range(3)]
    behavior = finite.random_policy(9)
    batch, policy = (jax.tree.map(lambda *x: jnp.stack(x), *each) for each in (mdps, policies))
    together = jax.vmap(function, in_axes=(0, 0, None))(batch, policy, behavior)
    for i, (mdp, pi) in enumerate(zip(mdps, policies, strict=True)):
        one = function(mdp, pi, behavior)
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(x[i], y, **CLOSE)


def test_random_mdps_are_garnets():
    make = functools.partial(
        tabular.random_mdp,
        num_states=6,
        num_actions=2,
        discount=0.9,
        branching=3,
        terminal_probability=0.1,
    )
    mdps = jax.vmap(make)(jax.random.split(jax.random.key(0), 50))
    assert mdps.reward.shape == (50, 6, 2) and mdps.transition.shape == (50, 6, 2, 6)
    np.testing.assert_array_equal((mdps.transition > 0).sum(-1), 3)
    np.testing.assert_allclose(mdps.transition.sum(-1), 1.0)
    np.testing.assert_allclose(mdps.transition.mean((0, 1, 2)), np.full(6, 1 / 6), atol=0.03)
    np.testing.assert_allclose([mdps.reward.mean(), mdps.reward.std()], [0, 1], atol=0.15)
    np.testing.assert_array_equal(mdps.terminal, 0.1)
    tabular.check(jax.tree.map(lambda x: x[0], mdps))
    with pytest.raises(InputError, match="branching is 7 of 6 states"):
        tabular.random_mdp(jax.random.key(0), 6, 2, discount=0.9, branching=7)


def test_an_mdp_that_is_none_is_refused():
    mdp = finite.random_mdp(0)
    assert tabular.check(mdp) is mdp
    for wrong, sentence in (
        ({"initial": jnp.ones(3) / 3}, "initial has shape"),
        ({"transition": mdp.transition * 0.9}, "transition has a row that is no distribution"),
        ({"terminal": mdp.terminal - 0.5}, "terminal has entries outside"),
        ({"discount": 1.0}, "the discount is 1.0"),
    ):
        with pytest.raises(InputError, match=sentence):
            tabular.check(mdp._replace(**wrong))


def test_single_precision_is_within_its_stated_error():
    with jax.enable_x64(False):
        mdp = tabular.random_mdp(jax.random.key(0), 5, 3, discount=0.99)
        policy = tabular.uniform_policy(mdp)
        found = tabular.q_value(mdp, policy), tabular.q_iteration(mdp)
        assert found[0].dtype == found[1].dtype == jnp.float32
    exact = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), mdp)
    exact = exact._replace(transition=exact.transition / exact.transition.sum(-1, keepdims=True))
    policy = jnp.full((5, 3), 1 / 3)
    for x, y in zip(
        found, (tabular.q_value(exact, policy), tabular.q_iteration(exact)), strict=True
    ):
        assert np.abs(np.asarray(x) - y).max() < 1e-4 * np.abs(y).max()
