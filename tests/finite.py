"""Small random MDPs, and values by plain repetition in NumPy's double precision."""

import jax.numpy as jnp
import numpy as np

from offrl_jax.tabular import MDP

NUM_STATES, NUM_ACTIONS, DISCOUNT = 4, 3, 0.8


def random_mdp(seed, ending=0.3):
    """Episodes end at (s, a) with probabilities up to `ending`."""
    rng = np.random.default_rng(seed)
    shape = NUM_STATES, NUM_ACTIONS
    return MDP(
        transition=jnp.asarray(rng.dirichlet(np.full(NUM_STATES, 0.5), shape)),
        reward=jnp.asarray(rng.normal(size=shape)),
        terminal=jnp.asarray(rng.uniform(0, ending, shape)),
        initial=jnp.asarray(rng.dirichlet(np.ones(NUM_STATES))),
        discount=jnp.asarray(DISCOUNT),
    )


def two_action_bandit():
    """One state, and every episode ends after its action."""
    return MDP(
        transition=jnp.ones((1, 2, 1)),
        reward=jnp.zeros((1, 2)),
        terminal=jnp.ones((1, 2)),
        initial=jnp.ones(1),
        discount=jnp.asarray(0.9),
    )


def random_policy(seed):
    """Every probability is above 0.03."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(NUM_ACTIONS), NUM_STATES)
    return jnp.asarray(0.9 * rows + 0.1 / NUM_ACTIONS)


def next_mean(mdp, value):
    """Σ_s' (1 − d) P(s'|s, a) V(s')."""
    return (1 - np.asarray(mdp.terminal)) * (np.asarray(mdp.transition) @ value)


def repeat(update, start, times=200):  # 0.8²⁰⁰ = 4e-20
    x = np.asarray(start)
    for _ in range(times):
        x = update(x)
    return x


def evaluated(mdp, policy, reward=None):
    """Σ_t γ^t r_t of a policy from each (s, a)."""
    reward = np.asarray(mdp.reward if reward is None else reward)
    pi = np.asarray(policy)
    return repeat(
        lambda q: reward + DISCOUNT * next_mean(mdp, (pi * q).sum(1)), np.zeros(reward.shape)
    )


def slopes_followed(mdp, backup, behavior, pushing, times=4000):
    """Where Q ← Q − ½ [ β (Q − B Q) + pushing(Q) ] ends: the loss ½ E_β (Q − y)² + penalty by its
    gradient at the targets y = B Q of the moment."""
    beta = np.asarray(behavior)
    return repeat(
        lambda q: q - (beta * (q - backup(q)) + pushing(q)) / 2, np.zeros(beta.shape), times
    )


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
