"""Whole updates of CQL against gradients, Adam and Polyak steps written out by hand in NumPy.

Only the random numbers are the library's; densities, losses and slopes are float64 NumPy from the
equations. After each of two updates every parameter agrees to 1e-5 and every first moment of Adam
to 1e-5 of its leaf's largest entry, the library in float32. The second starts from NumPy's state.
"""

import jax
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, devices
from offrl_jax.algorithms.cql import CQLConfig
from offrl_jax.networks.modules import MLP
from offrl_jax.types import Spec, Transition
from tests.arrays import random_dataset
from tests.few import few

CQL = ALGORITHMS["cql"]
B, S, A, N = 5, 4, 3, 4  # states; size of a state and an action; penalty actions of a source
SPEC = Spec(S, A, action_low=(-1.0,) * A, action_high=(1.0,) * A)
SETTINGS = {
    "actor_network": MLP((8, 8)),
    "critic_network": MLP((8, 8)),
    "num_sampled_actions": N,
    "conservative_weight": 2.5,
    "lagrange_threshold": 1.5,
    "penalty_temperature": 0.8,
    "discount": 0.9,
    "target_update_rate": 0.1,
    "target_entropy_per_action": -0.6,
    "actor_learning_rate": 1e-2,
    "critic_learning_rate": 2e-2,
    "temperature_learning_rate": 3e-2,
    "multiplier_learning_rate": 4e-2,
}
update = jax.jit(CQL.update)


def forward(p, x):
    """Outputs of ReLU networks [W, b, W, b, W, b], stacked over networks; what enters a layer."""
    entering = [x]
    for w, b in (p[:2], p[2:4]):
        entering.append(np.maximum(entering[-1] @ w + b[:, None], 0.0))
    return entering[-1] @ p[4] + p[5][:, None], entering


def backward(p, entering, slope):
    """Gradients of Σ slope · output in the parameters and in x."""
    gradient = []
    for layer in (2, 1, 0):
        x = entering[layer]
        gradient = [x.swapaxes(1, 2) @ slope, slope.sum(1), *gradient]
        slope = slope @ p[2 * layer].swapaxes(1, 2)
        slope = slope * (x > 0) if layer else slope
    return gradient, slope


def critics(p, observation, action):
    x = np.concatenate([observation, action], axis=-1)
    q, entering = forward(p, np.stack([x, x]))
    return q[..., 0], entering


def policy(p, observation):
    """μ, log σ and whether it lies within its bounds; what enters a layer."""
    out, entering = forward(p, observation[None])
    mean, log_std = out[0, :, :A], out[0, :, A:]
    return mean, np.clip(log_std, -5, 2), (log_std > -5) & (log_std < 2), entering


def sample(mean, log_std, noise):
    """a = tanh u, u = μ + σ ε, and log π(a) = Σ_j log N(u_j; μ_j, σ_j) − log(1 − tanh² u_j)."""
    std = np.exp(log_std)
    u = mean + std * noise
    normal = np.exp(-0.5 * ((u - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    return np.tanh(u), np.sum(np.log(normal) + 2 * np.log(np.cosh(u)), axis=-1)


def draw(key):
    """The noise of one update: the library's keys, and nothing else of it."""
    actor_key, next_key, penalty_key = jax.random.split(key, 3)
    uniform_key, own_key, following_key = jax.random.split(penalty_key, 3)
    drawn = {
        "actor": jax.random.normal(actor_key, (B, A)),
        "next": jax.random.normal(next_key, (B, A)),
        "uniform": jax.random.uniform(uniform_key, (B, N, A), minval=-1.0, maxval=1.0),
        "own": jax.random.normal(own_key, (B, N, A)),
        "following": jax.random.normal(following_key, (B, N, A)),
    }
    return {name: np.float64(x) for name, x in drawn.items()}


def td_target(config, s, batch, noise):
    """y = r + γ (1 − d) min_k Q̄_k(s′, a′), a′ ~ π(s′)."""
    next_action, _ = sample(*policy(s["actor"], batch.next_observation)[:2], noise["next"])
    q, _ = critics(s["target"], batch.next_observation, next_action)
    assert len(set(q.argmin(0))) == 2  # each critic is the lower one somewhere
    return batch.reward + config.discount * (1 - batch.terminal) * q.min(0)


def candidates(config, s, batch, noise):
    """Actions (B, M, A) of the penalty and the log-densities they were drawn with."""
    sources = {"uniform": (noise["uniform"], np.full((B, N), A * np.log(0.5)))}
    for name, x in (("own", batch.observation), ("following", batch.next_observation)):
        mean, log_std, *_ = policy(s["actor"], x)
        sources[name] = sample(mean[:, None], log_std[:, None], noise[name])
    used = sources.values() if config.variant == "h" else [sources["own"]]
    return [np.concatenate(x, axis=1) for x in zip(*used, strict=True)]


def critic_gradient(config, s, batch, noise):
    """Of Σ_k mean_b (Q_k − y)² + w gap_k, or plus α′ (w gap_k − τ); gap_k is the mean over b of

    h   T log Σ_j exp( [Q_k(s, a_j) − log μ_j(a_j)] / T ) − Q_k(s, a)
    v2  mean_j Q_k(s, a_j) − Q_k(s, a)
    """
    action, log_density = candidates(config, s, batch, noise)
    actions = np.concatenate([batch.action[:, None], action], axis=1)
    rows = np.repeat(batch.observation, actions.shape[1], axis=0)
    q, entering = critics(s["critic"], rows, actions.reshape(-1, A))
    data, sampled = np.split(q.reshape(2, B, -1), [1], axis=-1)
    if config.variant == "h":
        terms = np.exp((sampled - log_density) / config.penalty_temperature)
        down = config.penalty_temperature * np.log(terms.sum(-1))
        share = terms / terms.sum(-1, keepdims=True)
    else:
        down, share = sampled.mean(-1), np.full(sampled.shape, 1 / sampled.shape[-1])
    alpha = np.exp(s["multiplier"][0]) if config.lagrange != "off" else 1.0
    push = alpha * config.conservative_weight
    error = data - td_target(config, s, batch, noise)[:, None]
    slope = np.concatenate([2 * error - push, push * share], axis=-1) / B
    gradient, _ = backward(s["critic"], entering, slope.reshape(2, -1, 1))
    return gradient, (down - data[..., 0]).mean()


def actor_gradient(s, batch, noise):
    """Of mean_b [ α log π(a|s) − min_k Q_k(s, a) ] through a = tanh(μ + σ ε); and log π."""
    mean, log_std, inside, policy_entering = policy(s["actor"], batch.observation)
    action, log_prob = sample(mean, log_std, noise["actor"])
    q, entering = critics(s["critic"], batch.observation, action)
    assert len(set(q.argmin(0))) == 2 and len(set(inside.flat)) == 2
    _, slope = backward(s["critic"], entering, (q == q.min(0))[..., None] / -B)
    alpha = np.exp(s["temperature"][0])
    du = slope.sum(0)[:, S:] * (1 - action**2) + alpha * 2 * action / B
    dlog_std = (du * np.exp(log_std) * noise["actor"] - alpha / B) * inside
    head = np.concatenate([du, dlog_std], axis=-1)[None]
    return backward(s["actor"], policy_entering, head)[0], log_prob


def gradients(config, s, batch, noise):
    """All at the same old parameters."""
    critic, gap = critic_gradient(config, s, batch, noise)
    actor, log_prob = actor_gradient(s, batch, noise)
    # Of −log α (mean log π + H̄), then of −α′ (w gap − τ) or −α′ w (gap − τ)
    temperature = -(log_prob.mean() + config.target_entropy_per_action * A)
    g = {"critic": critic, "actor": actor, "temperature": [temperature]}
    if config.lagrange != "off":
        outside = config.conservative_weight if config.lagrange == "jaxcql" else 1.0
        excess = config.conservative_weight * gap - outside * config.lagrange_threshold
        g["multiplier"] = [-np.exp(s["multiplier"][0]) * excess]
    return g


def adam(old, g, first, second, t, rate):
    first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
    unbiased = first / (1 - 0.9**t), second / (1 - 0.999**t)
    return old - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8), first, second


def numpy_update(config, s, moments, t, batch, noise):
    """Parameters and Adam's moments after update t = 1, 2, …"""
    s, moments, tau = dict(s), dict(moments), config.target_update_rate
    for name, g in gradients(config, s, batch, noise).items():
        rate = getattr(config, f"{name}_learning_rate")
        before = moments.get(name, [(0, 0)] * len(g))
        new = [adam(p, x, *m, t, rate) for p, x, m in zip(s[name], g, before, strict=True)]
        s[name], moments[name] = [x[0] for x in new], [x[1:] for x in new]
    pairs = zip(s["target"], s["critic"], strict=True)
    return s | {"target": [(1 - tau) * old + tau * new for old, new in pairs]}, moments


def flat(network):
    """Of a policy, or of critics stacked."""
    if "members" not in network:
        network = {"members": jax.tree.map(lambda x: x[None], network)}
    p = network["members"]
    layers = p["network"]["Dense_0"], p["network"]["Dense_1"], p["head"]
    return [np.float64(x[name]) for x in layers for name in ("kernel", "bias")]


def by_name(actor, critic, temperature, multiplier):
    s = {"actor": flat(actor), "critic": flat(critic), "temperature": [np.float64(temperature)]}
    return s if multiplier is None else s | {"multiplier": [np.float64(multiplier)]}


def trainables(state):
    agent = state.agent
    return agent.actor, agent.critic, agent.temperature, state.multiplier


def parameters(state):
    s = by_name(*(None if x is None else x.params for x in trainables(state)))
    return s | {"target": flat(state.agent.target_critic)}


def first_moments(state):
    return by_name(*(None if x is None else x.opt_state[0].mu for x in trainables(state)))


def assert_close(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name, leaves in expected.items():
        for i, (a, e) in enumerate(zip(actual[name], leaves, strict=True)):
            message = f"{name}, leaf {i}"
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance(e), err_msg=message)


def random_state(config, rng):
    """No bias zero, targets of their own, many a log σ at its bounds; Adam's moments zero."""
    shapes = jax.eval_shape(lambda: CQL.init(config, SPEC, jax.random.key(0)))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

    def normal(tree):
        return jax.tree.map(lambda x: np.float32(rng.normal(scale=0.5, size=x.shape)), tree)

    agent = state.agent
    actor, critic, target_critic = map(
        normal, (agent.actor.params, agent.critic.params, agent.target_critic)
    )
    actor["head"]["bias"] += np.float32([0, 0, 0, -4.5, 0, 0])
    agent = agent._replace(
        actor=agent.actor._replace(params=actor),
        critic=agent.critic._replace(params=critic),
        target_critic=target_critic,
        temperature=agent.temperature._replace(params=np.float32(-0.7)),
    )
    multiplier = state.multiplier
    if config.lagrange != "off":
        multiplier = multiplier._replace(params=np.float32(0.4))
    return state._replace(agent=agent, multiplier=multiplier)


def random_batch(rng):
    observation, next_observation = rng.normal(size=(2, B, S))
    action, next_action = rng.uniform(-1, 1, (2, B, A))
    reward, terminal, valid = rng.normal(size=B), np.arange(B) % 2, np.ones(B)
    rows = observation, action, reward, next_observation, terminal, next_action, valid, reward
    return Transition(*(np.float32(x) for x in rows))


@pytest.mark.parametrize(
    ("variant", "lagrange"), [("h", "off"), ("h", "authors"), ("v2", "jaxcql")]
)
def test_two_updates_match_numpy(variant, lagrange):
    config = CQLConfig(**SETTINGS, variant=variant, lagrange=lagrange)
    rng = np.random.default_rng(19)  # one that meets the assertions above on what is covered
    state = random_state(config, rng)
    s, moments = parameters(state), {}
    for t in (1, 2):
        batch, key = random_batch(rng), jax.random.key(t)
        state, _ = update(config, state, batch, key)
        s, moments = numpy_update(config, s, moments, t, jax.tree.map(np.float64, batch), draw(key))
        assert_close(parameters(state), s, lambda leaf: 1e-5)
        first = {name: [m for m, _ in leaves] for name, leaves in moments.items()}
        assert_close(first_moments(state), first, lambda leaf: 1e-5 * np.abs(leaf).max())


@pytest.mark.parametrize("lagrange", few(["off", "authors"], ["off"]))
def test_blocks_of_states_give_the_whole_batchs_gradient(lagrange, monkeypatch):
    network = MLP((8, 8))
    config = CQLConfig(
        actor_network=network, critic_network=network, batch_size=24, lagrange=lagrange
    )
    dataset = random_dataset()
    state = CQL.init(config, dataset.spec, jax.random.key(0))
    batch = jax.tree.map(lambda x: x[:24], dataset.transitions)
    found = []
    for rows in (10_000, 4 * 31):
        monkeypatch.setattr(devices, "ROWS_AT_ONCE", {"cpu": rows})
        update = jax.jit(lambda state: CQL.update(config, state, batch, jax.random.key(1)))
        found.append(update(state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)
