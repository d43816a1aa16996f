"""BRAC: its equations against NumPy, fixed points, limits, every divergence's pull, its sweep."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import log_expit, logsumexp

from offrl_jax import ALGORITHMS, grid, init, learn, learner, stack
from offrl_jax.algorithms.base import phases_of
from offrl_jax.algorithms.brac import (
    PRIMAL,
    BRACConfig,
    actor_loss,
    behavior_loss,
    brac,
    divergence,
    penalised_target,
)
from offrl_jax.algorithms.common import divergence_critic, soft_actor_critic
from offrl_jax.algorithms.common.divergence_critic import DUAL
from offrl_jax.algorithms.common.soft_actor_critic import policy_of
from offrl_jax.losses.divergences import F_DIVERGENCES, kl_from_samples
from offrl_jax.networks.modules import MLP
from offrl_jax.testing import counting_traces
from offrl_jax.types import Transition
from tests.arrays import bandit, random_dataset
from tests.few import few

KEY = jax.random.key(1)
KEYS = tuple(jax.random.split(KEY))
SMALL = {
    "actor_network": MLP((8,)),
    "critic_network": MLP((4,)),
    "discount": 0.8,
    "target_update_rate": 0.1,
    "actor_learning_rate": 1e-2,
    "critic_learning_rate": 1e-2,
    "batch_size": 16,
}
CONFIG = BRACConfig(num_critics=3, num_warmup_steps=3, num_behavior_steps=4, mmd_sigma=0.7, **SMALL)
# Four states, two choices, and as successors each state or the end: every row of a tabular problem.
NUM_STATES, NUM_CHOICES = 4, 2
DATASET = random_dataset(observation_size=NUM_STATES, action_size=2)
OF_STATE, OF_CHOICE, SUCCESSOR = (
    x.ravel() for x in np.indices((NUM_STATES, NUM_CHOICES, NUM_STATES + 1))
)
ENDS = SUCCESSOR == NUM_STATES
NUM_ROWS = len(ENDS)


def rows():
    rng = np.random.default_rng(0)
    eye = np.eye(NUM_STATES)
    fields = Transition(
        observation=eye[OF_STATE],
        action=rng.uniform(-1, 1, (NUM_ROWS, 2)),
        reward=rng.normal(size=NUM_ROWS),
        next_observation=eye[SUCCESSOR % NUM_STATES],
        terminal=ENDS,
        next_action=rng.uniform(-1, 1, (NUM_ROWS, 2)),
        next_action_valid=~ENDS & (rng.uniform(size=NUM_ROWS) < 0.7),
        return_to_go=np.zeros(NUM_ROWS),
    )
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), fields)


BATCH = rows()
DATA = jax.tree.map(lambda x: np.asarray(x, np.float64), BATCH)


def started(config, spec=DATASET.spec):
    """Random parameters, so that no two networks agree and no bias is 0, fresh optimisers, α_e =
    0.3, and a weight of the divergence that is not the config's."""
    rng = np.random.default_rng(0)

    def filled(path, leaf):
        fresh = "opt_state" in jax.tree_util.keystr(path)
        numbers = np.zeros(leaf.shape) if fresh else rng.normal(0, 0.5, leaf.shape)
        return numbers.astype(leaf.dtype)

    shapes = jax.eval_shape(lambda: brac.init(config, spec, KEY))
    state = jax.tree_util.tree_map_with_path(filled, shapes)
    return with_params(state, temperature=np.float32(np.log(0.3)))._replace(
        divergence_weight=np.float32(0.7)
    )


def with_agent(state, **fields):
    return state._replace(agent=state.agent._replace(**fields))


def with_params(state, **params):
    """With these parameters of the agent's Trainables."""
    agent = state.agent
    fields = {name: getattr(agent, name)._replace(params=x) for name, x in params.items()}
    return with_agent(state, **fields)


STATES = {}


def state_of(config):
    """One for the divergences with a model of β, one for those with a critic."""
    kind = config.divergence in PRIMAL
    if kind not in STATES:
        STATES[kind] = started(config)
    return STATES[kind]


def changed(**settings):
    return dataclasses.replace(CONFIG, **settings)


# The equations in NumPy, for networks of one hidden layer


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def gaussian(params, observation, highest=2.0):
    mean, log_std = np.split(layers(double(params), observation), 2, -1)
    return mean, np.exp(np.clip(log_std, -5, highest))


def behavior_gaussian(state, observation):
    return gaussian(state.behavior.params["policy"], observation, highest=0.0)


def normal(key, *shape):
    return np.asarray(jax.random.normal(key, shape), np.float64)


def sampled(mean, std, key):
    """An action, and its log-density by the change of variables."""
    u = mean + std * normal(key, *mean.shape)
    log_prob = stats.norm.logpdf(u, mean, std) - np.log(1 - np.tanh(u) ** 2)
    return np.tanh(u), log_prob.sum(-1)


def layers(p, x):
    first = p["network"]["Dense_0"]
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    return hidden @ p["head"]["kernel"] + p["head"]["bias"]


def value_of_pair(p, observation, action):
    return layers(p, np.concatenate([observation, action], -1))[..., 0]


def critics(params, observation, action):
    """(E, B)."""
    p = double(params)["members"]
    each = [jax.tree.map(lambda x, k=k: x[k], p) for k in range(len(p["head"]["bias"]))]
    return np.stack([value_of_pair(one, observation, action) for one in each])


def kl(mean_p, std_p, mean_q, std_q):
    each = np.log(std_q / std_p) + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    return each.sum(-1)


def numpy_divergence(config, state, actor, observation, data_action, key):
    policy = gaussian(actor, observation)
    if config.divergence == "kl":
        return kl(*policy, *behavior_gaussian(state, observation))
    assert config.divergence == "wasserstein"
    critic = double(state.divergence_critic.params)
    action, _ = sampled(*policy, key)
    of_policy, of_data = (value_of_pair(critic, observation, a) for a in (action, data_action))
    return of_policy - of_data


def numpy_actor_loss(config, state, actor, keys=KEYS, *, with_q=True):
    s = DATA.observation
    action, log_prob = sampled(*gaussian(actor, s), keys[0])
    q = critics(state.agent.critic.params, s, action).min(0)
    distance = numpy_divergence(config, state, actor, s, DATA.action, keys[1])
    return np.mean(0.3 * log_prob + 0.7 * distance - with_q * q)


def numpy_target(config, state, keys):
    """Of keys for the next action and for the divergence."""
    s, s_next, actor = DATA.observation, DATA.next_observation, state.agent.actor.params
    action, log_prob = sampled(*gaussian(actor, s_next), keys[0])
    value = critics(state.agent.target_critic, s_next, action).min(0) - 0.3 * log_prob
    now = later = 0.0
    if config.variant == "v" and config.penalty_position == "state":
        now = numpy_divergence(config, state, actor, s, DATA.action, keys[1])
    elif config.variant == "v":
        later = numpy_divergence(config, state, actor, s_next, DATA.next_action, keys[1])
        later = later * (DATA.next_action_valid if config.divergence in DUAL else 1.0)
    return DATA.reward - 0.7 * now + 0.8 * (1 - DATA.terminal) * (value - 0.7 * later)


def assert_slope(gradient, loss, params):
    """The gradient along a random direction is the loss' difference quotient."""
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    def shifted(h):
        return loss(jax.tree.map(lambda x, d: x + h * d, double(params), direction))

    slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(slope, rel=1e-3, abs=1e-4)


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


# The losses

PAYING = {
    "p": {"variant": "p"},
    "next_state": {},
    "state": {"penalty_position": "state"},
}


TARGET_KEYS = jax.random.split(KEY, 3)[1], jax.random.key(2)


@jax.jit
def target_of(config, state, batch):
    _, context, _ = soft_actor_critic.policy_step(config, state.agent, batch, KEY)
    return penalised_target(config, state, context, TARGET_KEYS[1])


@pytest.mark.parametrize(
    ("paying", "divergence"),
    [("p", "kl"), *itertools.product(("next_state", "state"), ("kl", "wasserstein"))],
)
def test_the_target_pays_by_its_variant_and_position_and_not_after_a_true_end(paying, divergence):
    """The wasserstein critic also needs the data's next action, which not every row has."""
    config = changed(divergence=divergence, **PAYING[paying])
    state = state_of(config)
    target = target_of(config, state, BATCH)
    expected = numpy_target(config, state, TARGET_KEYS)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-4)
    if paying != "state":
        np.testing.assert_array_equal(target[ENDS], BATCH.reward[ENDS])


def test_no_gradient_flows_through_the_target():
    def total(differentiable):
        actor, critic, behavior, weight = differentiable
        state = state_of(CONFIG)
        state = state._replace(
            behavior=state.behavior._replace(params=behavior), divergence_weight=weight
        )
        state = with_agent(with_params(state, actor=actor), target_critic=critic)
        return jnp.sum(target_of(CONFIG, state, BATCH))

    agent, behavior, _, weight = state_of(CONFIG)
    gradient = jax.jit(jax.grad(total))(
        (agent.actor.params, agent.target_critic, behavior.params, weight)
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("settings", "first"),
    [({"variant": "p"}, 7), ({"variant": "v"}, 7), ({"divergence": "wasserstein"}, 3)],
)
def test_the_actor_pays_in_both_variants_and_starts_on_q_after_pretraining_and_warm_up(
    settings, first
):
    """Without a model of β there is no pretraining to wait for."""
    config = changed(**settings)
    loss_and_gradient = jax.jit(jax.value_and_grad(actor_loss, argnums=1, has_aux=True))
    key, divergence_key = KEYS
    for step in (0, first - 1, first, 100):
        state = with_agent(state_of(config), step=np.int32(step))
        actor = state.agent.actor.params
        (loss, _), gradient = loss_and_gradient(
            config, actor, state, BATCH, key=key, divergence_key=divergence_key
        )

        def expected(actor, state=state, with_q=step >= first):
            return numpy_actor_loss(config, state, actor, with_q=with_q)

        assert loss == pytest.approx(expected(actor), rel=1e-4)
        assert_slope(gradient, expected, actor)


@jax.jit
def divergence_of(config, state, batch, key):
    policy = policy_of(config, state.agent.actor.params, batch.observation)
    return divergence(config, state, policy, batch, key)


def test_kl_is_from_the_policy_and_reverse_kl_from_the_behavior():
    state = state_of(CONFIG)
    policy = gaussian(state.agent.actor.params, DATA.observation)
    behavior = behavior_gaussian(state, DATA.observation)
    rng = np.random.default_rng(0)
    for name, p, q in (("kl", policy, behavior), ("reverse_kl", behavior, policy)):
        exact = divergence_of(changed(divergence=name), state, BATCH, KEY)
        np.testing.assert_allclose(exact, kl(*p, *q), rtol=1e-4)
        u = p[0][:, None] + p[1][:, None] * rng.normal(size=(NUM_ROWS, 2000, 2))
        log_p, log_q = (stats.norm.logpdf(u, m[:, None], s[:, None]).sum(-1) for m, s in (p, q))
        estimate = kl_from_samples(jnp.asarray(log_p), jnp.asarray(log_q))
        error = np.std(log_p - log_q, axis=1) / np.sqrt(2000)
        assert (abs(estimate - exact) < 5 * error).all()
    assert abs(kl(*policy, *behavior) - kl(*behavior, *policy)).min() > 0.01


def test_mmd_is_of_squashed_samples_with_one_sigma_and_no_root_by_default():
    state = state_of(CONFIG)
    policy = gaussian(state.agent.actor.params, DATA.observation)
    behavior = behavior_gaussian(state, DATA.observation)
    x, y = (
        np.tanh(mean[:, None] + std[:, None] * noise)
        for (mean, std), noise in zip((policy, behavior), normal(KEY, 2, 40, 4, 2), strict=True)
    )

    def mean_kernel(x, y):
        return np.exp(-abs(x[:, :, None] - y[:, None]).sum(-1) / 0.7).mean((1, 2))

    expected = mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)
    mmd = divergence_of(changed(divergence="mmd"), state, BATCH, KEY)
    np.testing.assert_allclose(mmd, expected, rtol=1e-3, atol=1e-5)


# Fixed points and limits


@pytest.mark.parametrize("paying", PAYING)
def test_tabular_fixed_points(paying):
    """p: Q^π;   next_state: Q^π − γP(I − γP_π)⁻¹αD;   state: Q^π − (I − γP^π)⁻¹αD(s).

    The table is the head of critics whose hidden layer copies the state and ignores the action:
    at s′ they hold Σ_a π(a|s′) Q(s′, a), of a policy over two choices that leads through the MDP,
    while D(s) is of the actor's and the behaviour's networks.
    """
    rng = np.random.default_rng(1)
    gamma, alpha = 0.8, 0.7
    shape = NUM_STATES, NUM_CHOICES
    outcome = rng.dirichlet(np.full(NUM_STATES + 1, 0.5), shape)  # the last one ends the episode
    reward, choice = rng.normal(size=shape), rng.dirichlet([1.0, 1.0], NUM_STATES)
    config = changed(**PAYING[paying])
    state = with_params(state_of(config), temperature=np.float32(np.log(1e-8)))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), state.agent.target_critic)
    members = params["members"]
    members["network"]["Dense_0"]["kernel"][:, :NUM_STATES] = np.eye(NUM_STATES)
    batch = BATCH._replace(reward=jnp.asarray(reward[OF_STATE, OF_CHOICE], jnp.float32))
    q = np.zeros(shape)
    for _ in range(80):
        members["head"]["kernel"][:] = (choice * q).sum(1)[:, None]
        y = target_of(config, with_agent(state, target_critic=params), batch)
        q = (np.asarray(y).reshape(*shape, -1) * outcome).sum(-1)

    P = outcome[..., :NUM_STATES]
    P_pi, r_pi = np.einsum("sa,saz->sz", choice, P), (choice * reward).sum(1)
    D = kl(
        *gaussian(state.agent.actor.params, np.eye(NUM_STATES)),
        *behavior_gaussian(state, np.eye(NUM_STATES)),
    )
    q_pi = reward + gamma * P @ np.linalg.solve(np.eye(NUM_STATES) - gamma * P_pi, r_pi)
    flat = NUM_STATES * NUM_CHOICES
    P_flat = np.einsum("saz,zb->sazb", P, choice).reshape(flat, flat)
    paid = {
        "p": 0.0,
        "next_state": gamma * P @ np.linalg.solve(np.eye(NUM_STATES) - gamma * P_pi, alpha * D),
        "state": np.linalg.solve(
            np.eye(flat) - gamma * P_flat, np.repeat(alpha * D, NUM_CHOICES)
        ).reshape(shape),
    }
    assert abs(paid["next_state"] - paid["state"]).min() > 0.1
    np.testing.assert_allclose(q, q_pi - paid[paying], rtol=1e-4, atol=1e-4)


SAC_SETTINGS = SMALL | {"initial_temperature": 0.3, "temperature_learning_rate": 1e-2}


@pytest.fixture(scope="module")
def sac_trained():
    config = ALGORITHMS["sac"].Config(**SAC_SETTINGS)
    state = init(ALGORITHMS["sac"], config, DATASET.spec, KEY)
    return double(learn(ALGORITHMS["sac"], config, DATASET, state, KEY, num_steps=4)[0].agent)


@pytest.mark.parametrize("divergence", few(["kl", "wasserstein"], ["kl"]))
def test_without_weight_brac_is_sac(sac_trained, divergence):
    """In both variants; with weight it is not."""
    config = BRACConfig(
        divergence=divergence,
        num_behavior_steps=0,
        num_warmup_steps=0,
        num_divergence_critic_steps=1,
        **SAC_SETTINGS,
    )
    for weight in (0.0, 1.0):
        config = dataclasses.replace(config, divergence_weight=weight)
        fresh = jax.tree.map(np.array, init(brac, config, DATASET.spec, KEY))
        for variant in ("p", "v"):
            setting = dataclasses.replace(config, variant=variant)
            state, _ = learn(brac, setting, DATASET, fresh, KEY, num_steps=4)
            differences = jax.tree.map(
                lambda a, b: abs(a - b).max(), double(state.agent), sac_trained
            )
            if weight == 0:
                assert max(jax.tree.leaves(differences)) < 1e-5
            else:
                assert max(jax.tree.leaves(differences.actor.params)) > 1e-3


def test_a_model_or_a_critic_exists_only_where_the_divergence_needs_it():
    for name in (*PRIMAL, *DUAL):
        config = changed(divergence=name)
        state = jax.eval_shape(lambda config=config: brac.init(config, DATASET.spec, KEY))
        primal = name in ("kl", "reverse_kl", "mmd")
        assert (state.behavior is None) == (not primal)
        assert (state.divergence_critic is None) == primal
        assert len(phases_of(brac, config)) == (2 if primal else 1)


def test_soft_control_by_kl_on_a_discrete_problem():
    """V = α log E_β e^{Q/α}, π = β e^{(Q − V)/α}: V = E_π Q − α KL(π‖β), in its two limits too."""
    rng = np.random.default_rng(0)
    shape = NUM_STATES, 3
    gamma, reward = 0.8, rng.normal(size=shape)
    P = rng.dirichlet(np.ones(NUM_STATES), shape)
    beta = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.6, 0.3]])

    def solved(alpha):
        v = np.zeros(NUM_STATES)
        for _ in range(200):
            q = reward + gamma * P @ v
            v = alpha * logsumexp(q / alpha, b=beta, axis=1)
        with np.errstate(divide="ignore"):
            return q, v, np.exp(np.log(beta) + (q - v[:, None]) / alpha)

    def kl_to_behavior(policy):
        ratio = np.divide(policy, beta, out=np.zeros(shape), where=beta > 0)
        return (beta * np.asarray(F_DIVERGENCES["kl"].generator(jnp.asarray(ratio)))).sum(1)

    q, v, policy = solved(0.6)
    np.testing.assert_allclose(policy.sum(1), 1.0, atol=1e-10)
    np.testing.assert_allclose(q, reward + gamma * P @ v, atol=1e-10)
    np.testing.assert_allclose(v, (policy * q).sum(1) - 0.6 * kl_to_behavior(policy), atol=1e-5)
    for _ in range(50):  # no other policy does better against the same Q
        other = rng.dirichlet(np.ones(3), NUM_STATES) * (beta > 0)
        other /= other.sum(1, keepdims=True)
        assert ((other * q).sum(1) - 0.6 * kl_to_behavior(other) <= v + 1e-5).all()
    q, _, cold = solved(1e-3)
    best = np.where(beta > 0, q, -np.inf).argmax(1)
    np.testing.assert_allclose(cold, np.eye(3)[best], atol=1e-6)
    assert (best != q.argmax(1)).any()  # where the best action of all is not β's
    np.testing.assert_allclose(solved(1e4)[2], beta, atol=1e-3)


# The other pieces


def test_a_step_takes_every_gradient_at_the_old_parameters_and_then_moves_the_weight():
    update = jax.jit(brac.update)
    actor_key, next_key, _ = jax.random.split(KEY, 3)
    distance_key, target_key, _ = jax.random.split(jax.random.fold_in(KEY, 3), 3)
    old = with_agent(state_of(CONFIG), step=np.int32(9))
    distance = numpy_divergence(
        CONFIG, old, old.agent.actor.params, DATA.observation, DATA.action, distance_key
    ).mean()
    for rate, threshold, weight in [
        (0.1, distance - 0.5, 0.75),  # D above ε: rises
        (0.1, distance + 0.5, 0.65),
        (1e5, distance - 0.5, 500.0),
        (1e5, distance + 0.5, 0.0),
        (0.0, 0.0, 0.7),
    ]:
        config = changed(
            divergence_weight_learning_rate=rate, divergence_threshold=float(threshold)
        )
        new, metrics = update(config, old, BATCH, KEY)
        assert new.divergence_weight == pytest.approx(weight, abs=1e-4)

    keys = actor_key, distance_key
    loss = numpy_actor_loss(CONFIG, old, old.agent.actor.params, keys)
    assert metrics["actor/loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["actor/divergence"] == pytest.approx(distance, rel=1e-4)
    target = numpy_target(CONFIG, old, (next_key, target_key))
    q = critics(old.agent.critic.params, DATA.observation, DATA.action)
    error = np.square(q - target).mean(1).sum()
    assert metrics["critic/loss"] == pytest.approx(error, rel=1e-4)
    jax.tree.map(
        lambda t, c, after: np.testing.assert_allclose(after, 0.9 * t + 0.1 * c, atol=1e-5),
        *(old.agent.target_critic, new.agent.critic.params, new.agent.target_critic),
    )
    for name in ("actor", "critic"):
        before, after = getattr(old.agent, name), getattr(new.agent, name)
        assert after.opt_state[0].count == 1
        assert not equal(after.params, before.params)
    assert equal(new.behavior, old.behavior)
    assert new.step == 10


def test_the_behavior_keeps_its_entropy_at_the_target_while_it_fits_the_data():
    """mean [−log β(a|s) + α log β(ã|s)], and α rises while the entropy is below its target."""
    state = state_of(CONFIG)
    behavior = state.behavior.params | {"log_temperature": np.float32(0.5)}
    batch = BATCH._replace(action=BATCH.action.at[0].set(1.0))  # taken at 0.999
    inside = np.clip(np.asarray(batch.action, np.float64), -0.999, 0.999)

    def log_probs(policy):
        mean, std = gaussian(policy, DATA.observation, highest=0.0)
        density = stats.norm.logpdf(np.arctanh(inside), mean, std) - np.log(1 - inside**2)
        return density.sum(-1).mean(), sampled(mean, std, KEY)[1].mean()

    def loss(policy):
        of_data, of_samples = log_probs(policy)
        return -of_data + np.exp(0.5) * of_samples

    gradient_of = jax.jit(jax.grad(behavior_loss, argnums=1, has_aux=True))
    of_data, of_samples = log_probs(behavior["policy"])
    for target in (-3.0, 3.0):
        config = changed(target_entropy_per_action=target)
        gradient, metrics = gradient_of(config, behavior, batch, KEY)
        assert_slope(gradient["policy"], loss, behavior["policy"])
        above = -of_samples - 2 * target
        assert gradient["log_temperature"] == pytest.approx(above, rel=1e-4)
        assert (above > 0) == (target < 0)  # descent: α falls above the target and rises below
    assert metrics["behavior/loss"] == pytest.approx(-of_data, rel=1e-4)
    assert metrics["behavior/entropy"] == pytest.approx(-of_samples, rel=1e-4)


def test_acting_takes_the_mode_or_of_several_samples_the_one_that_the_first_critic_likes_best():
    act = jax.jit(brac.act)
    state, s = state_of(CONFIG), DATA.observation
    mean, std = gaussian(state.agent.actor.params, s)
    mode = act(CONFIG, state, BATCH.observation, None)
    np.testing.assert_allclose(mode, np.tanh(mean), atol=1e-5)

    config = changed(num_action_samples=5)
    taken = act(config, state, BATCH.observation, KEY)
    candidates = np.tanh(mean[:, None] + std[:, None] * normal(KEY, NUM_ROWS, 5, 2))
    q = np.stack([critics(state.agent.critic.params, s, candidates[:, j]) for j in range(5)], -1)
    best = q[0].argmax(1)
    assert (best != q.min(0).argmax(1)).any() and (best != q.mean(0).argmax(1)).any()
    np.testing.assert_allclose(taken, candidates[np.arange(NUM_ROWS), best], atol=1e-5)

    keyless = act(config, state, BATCH.observation, None)
    for i in (0, 10):  # of different states
        alone = act(config, state, BATCH.observation[i : i + 1], None)
        np.testing.assert_allclose(alone[0], keyless[i], atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(brac.value)(config, state, BATCH.observation),
        critics(state.agent.critic.params, s, np.asarray(keyless)).min(0),
        rtol=1e-4,
        atol=1e-5,
    )


# Every divergence: its estimate, and where it draws the actor

DATA_GAUSSIAN, ACTOR_GAUSSIAN = (0.55, 0.4), (0.25, 0.3)  # before tanh; tanh 0.55 = 0.5
ONE_STATE = bandit(
    np.tanh(stats.norm.ppf((np.arange(256)[:, None] + 0.5) / 256, *DATA_GAUSSIAN)), np.zeros(256)
)


def exact_divergence(name):
    """By quadrature; f-divergences do not feel tanh, and W₁ = ∫ |F_π − F_β| does."""
    p, b = (stats.norm(*parameters) for parameters in (ACTOR_GAUSSIAN, DATA_GAUSSIAN))

    def integral(function):
        return integrate.quad(function, -1.5, 2.5, limit=200)[0]

    if name == "wasserstein":
        return integral(lambda u: abs(p.cdf(u) - b.cdf(u)) / np.cosh(u) ** 2)
    return integral(
        {
            "dual_kl": lambda u: p.pdf(u) * (p.logpdf(u) - b.logpdf(u)),
            "chi_squared": lambda u: p.pdf(u) ** 2 / b.pdf(u) - b.pdf(u),
            "total_variation": lambda u: abs(p.pdf(u) - b.pdf(u)) / 2,
            "jensen_shannon": lambda u: (
                (
                    p.pdf(u) * log_expit(p.logpdf(u) - b.logpdf(u))
                    + b.pdf(u) * log_expit(b.logpdf(u) - p.logpdf(u))
                )
                / 2
                + np.log(2) * (p.pdf(u) + b.pdf(u)) / 2
            ),
        }[name]
    )


def constant_policy(params, mean, std):
    zero = jax.tree.map(np.zeros_like, params)
    return zero | {"head": zero["head"] | {"bias": np.float32([mean, np.log(std)])}}


CHOICES = next(
    f.metadata["choices"] for f in dataclasses.fields(BRACConfig) if f.name == "divergence"
)


@jax.jit
def warm_up(config, state, keys):
    """Steps of the actor on the divergence alone and of the divergence's critic, if it has one."""
    batch = ONE_STATE.transitions

    def step(state, key):
        actor_key, critic_key = jax.random.split(key)
        key, divergence_key = jax.random.split(actor_key)
        actor, (metrics, policy, _) = state.agent.actor.minimize(
            lambda actor: actor_loss(
                config, actor, state, batch, key=key, divergence_key=divergence_key
            ),
            config.actor_learning_rate,
        )
        critic = state.divergence_critic
        if critic is not None:
            critic, _ = divergence_critic.steps(config, critic, policy, batch, critic_key)
        state = with_agent(state._replace(divergence_critic=critic), actor=actor)
        return state, metrics["actor/divergence"]

    return jax.lax.scan(step, state, keys)


@pytest.fixture(scope="module")
def at_the_pair():
    """Of the divergences with a model of β and of those with a critic, as only these differ."""
    config = BRACConfig(
        num_warmup_steps=10**6,
        divergence_critic_learning_rate=2e-2,
        mmd_sigma=0.5,
        actor_learning_rate=0.0,
        actor_network=MLP((4,)),
        critic_network=MLP((32,)),
        num_critics=1,
    )
    states = {}
    for primal, name in ((True, "kl"), (False, "dual_kl")):
        state = started(dataclasses.replace(config, divergence=name), ONE_STATE.spec)
        actor = constant_policy(state.agent.actor.params, *ACTOR_GAUSSIAN)
        states[primal] = with_params(state, actor=actor, temperature=np.float32(np.log(1e-8)))
    behavior = states[True].behavior
    policy = constant_policy(behavior.params["policy"], *DATA_GAUSSIAN)
    behavior = behavior._replace(params=behavior.params | {"policy": policy})
    states[True] = states[True]._replace(behavior=behavior)
    return config, states


@pytest.mark.parametrize("name", few(list(CHOICES), ["kl", "wasserstein"]))
def test_the_divergence_is_estimated_and_then_draws_the_actor_to_the_data(at_the_pair, name):
    """First the actor stands still while the critic learns, then it learns too. Without a penalty
    of slopes the bounds of f-divergences are tight, and only the wasserstein distance needs one."""
    config, states = at_the_pair
    config = dataclasses.replace(
        config,
        divergence=name,
        gradient_penalty_weight=5.0 if name == "wasserstein" else 0.0,
        num_divergence_critic_steps=2 if name == "wasserstein" else 1,
    )
    keys = jax.random.split(KEY, (3, 100))
    state, first = warm_up(config, states[name in PRIMAL], keys[0])
    state, fitted = warm_up(config, state, keys[1])
    if name in DUAL:
        exact = exact_divergence(name)
        assert first[0] < 0.5 * exact
        assert np.mean(fitted[-50:]) == pytest.approx(exact, rel=0.1)
        steps = 200 * config.num_divergence_critic_steps
        assert state.divergence_critic.opt_state[0].count == steps
    config = dataclasses.replace(config, actor_learning_rate=3e-3)
    state, drawn = warm_up(config, state, keys[2])
    assert np.mean(drawn[-20:]) < 0.8 * np.mean(fitted[-50:])
    mean, _ = gaussian(state.agent.actor.params, np.zeros((1, 2)))
    assert np.tanh(mean[0, 0]) == pytest.approx(0.5, abs=0.1)


# A study


def test_a_sweep_of_weights_and_seeds_is_one_program_a_phase_and_a_large_weight_stays_closer(
    monkeypatch,
):
    """Of 5 settings × 3 seeds, where the reward pulls the actor away from the data."""
    rng = np.random.default_rng(0)
    action = np.tanh(rng.normal(-0.5, 0.2, (512, 1)))
    dataset = bandit(action, 4 * action[:, 0])
    rates = dict.fromkeys(("actor", "critic", "behavior"), 4e-2)
    config = changed(
        num_behavior_steps=80,
        num_warmup_steps=0,
        batch_size=32,
        **{f"{name}_learning_rate": rate for name, rate in rates.items()},
    )
    configs = stack(grid(config, divergence_weight=(0.01, 0.1, 1.0, 10.0, 100.0)))
    keys = jax.random.split(KEY, (5, 3))
    (algorithm, traces), dispatches = counting_traces(brac), []
    dispatch = learner._learn

    def counting_dispatch(*args, **kwargs):
        dispatches.append(kwargs["num_steps"])
        return dispatch(*args, **kwargs)

    monkeypatch.setattr(learner, "_learn", counting_dispatch)
    fresh = init(algorithm, configs, dataset.spec, keys)
    kept = jax.tree.map(np.array, fresh)
    trained, metrics = learn(algorithm, configs, dataset, fresh, keys, num_steps=150)
    assert dispatches == [80, 70]
    assert len(traces) == len(set(traces)) == 2
    assert metrics["actor/divergence"].shape == (5, 3)

    again = init(algorithm, configs, dataset.spec, keys)
    pretrained, metrics = learn(algorithm, configs, dataset, again, keys, num_steps=80)
    assert len(traces) == 2
    assert (pretrained.step == 80).all() and (trained.step == 150).all()
    assert all(name.startswith("behavior/") for name in metrics)
    for name in ("actor", "critic", "target_critic", "temperature"):
        assert equal(getattr(pretrained.agent, name), getattr(kept.agent, name)), name
    assert equal(trained.behavior, pretrained.behavior)

    def one(state, h, s):
        return jax.tree.map(lambda x: np.asarray(x)[h, s], state)

    def log_likelihood(state, h, s):
        mean, std = behavior_gaussian(one(state, h, s), np.zeros((1, 2)))
        return stats.norm.logpdf(np.arctanh(action), mean, std).mean()

    def distance(h, s):
        run = one(trained, h, s)
        policy = gaussian(run.agent.actor.params, np.zeros((1, 2)))
        return kl(*policy, *behavior_gaussian(run, np.zeros((1, 2))))[0]

    for s in range(3):
        for h in range(5):
            best = stats.norm.logpdf(np.arctanh(action), -0.5, 0.2).mean()
            assert log_likelihood(kept, h, s) < best - 1
            assert log_likelihood(pretrained, h, s) > best - 0.2
        assert 5 * distance(4, s) < distance(0, s)
