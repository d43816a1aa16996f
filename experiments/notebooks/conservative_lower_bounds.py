# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Conservative Q-learning: what is bounded, and what is not
#
# Conservative Q-learning pushes Q down where a policy $\mu$ acts while the Bellman error holds it up
# at the data. With weight $\alpha$, behaviour $\beta$, $\mathcal{B}^\pi Q = r + \gamma P^\pi Q$ and
# exact expectations its fixed points are known:
#
# $$\text{v1:}\quad \hat Q = Q^\pi - \alpha (I - \gamma P^\pi)^{-1} \left[\mu / \beta\right],
# \qquad \text{v2:}\quad \hat Q = Q^\pi - \alpha (I - \gamma P^\pi)^{-1} \left[\mu / \beta - 1\right].$$
#
# v1 is below $Q^\pi$ everywhere. In v2 the data's actions are pushed up again, which is tighter:
# with $\mu = \pi$ its *value* is below,
# $\mathbb{E}_\pi \hat Q = V^\pi - \alpha (I - \gamma P_\pi)^{-1} \chi^2(\pi \| \beta)$, and single
# actions need not be.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax import tabular
from offrl_jax.losses.conservative import logsumexp

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
num_mdps = 200
num_states, num_actions, discount = 10, 4, 0.9
weights = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]  # α
num_improvements = 300  # of the policy that CQL(H) likes


# %% [markdown]
# ## Bounds on random MDPs
#
# Random MDPs, policies and behaviours (uniform draws from the simplex, mixed with a tenth of the
# uniform policy). CQL(H) lets $\mu$ be the softmax of $\hat Q$ itself. Its policy is moved to that
# softmax over and over: where it stops, $\mu = \pi$, and CQL(H) *is* v2 of that policy, bound
# included.


# %%
def random_policy(key):
    draw = jax.random.dirichlet(key, jnp.ones(num_actions), (num_states,))
    return 0.9 * draw + 0.1 / num_actions


@jax.jit
@jax.vmap
def gaps(key):
    """Q̂ − Q^π and V̂ − V^π of v1, v2 and CQL(H) for all weights, and how far CQL(H) is from v2."""
    mdp_key, policy_key, behavior_key = jax.random.split(key, 3)
    mdp = tabular.random_mdp(mdp_key, num_states, num_actions, discount=discount)
    policy, beta = random_policy(policy_key), random_policy(behavior_key)

    def at(alpha):
        def improve(_, policy):
            return jax.nn.softmax(tabular.cql_h(mdp, beta, alpha, policy))

        liked = jax.lax.fori_loop(0, num_improvements, improve, policy)
        v1 = tabular.cql_v1(mdp, policy, beta, alpha, pushed=policy)
        v2 = tabular.cql_v2(mdp, policy, beta, alpha)
        h = tabular.cql_h(mdp, beta, alpha, liked)
        cases = (v1, policy), (v2, policy), (h, liked)
        q = jnp.stack([found - tabular.q_value(mdp, pi) for found, pi in cases])
        v = jnp.stack([tabular.policy_mean(pi, q_gap) for (_, pi), q_gap in zip(cases, q)])
        return q, v, jnp.max(jnp.abs(h - tabular.cql_v2(mdp, liked, beta, alpha)))

    return jax.lax.map(at, jnp.asarray(weights))


q_gap, v_gap, from_v2 = map(np.asarray, gaps(jax.random.split(jax.random.key(0), num_mdps)))
q_gap, v_gap = np.moveaxis(q_gap, 2, 0), np.moveaxis(v_gap, 2, 0)  # form, MDP, weight, ...
