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
# Conservative Q-learning pushes Q down where a policy $\mu$ acts while the Bellman error holds it
# up at the data. With weight $\alpha$, behaviour $\beta$, $\mathcal{B}^\pi Q = r + \gamma P^\pi Q$
# and exact expectations its fixed points are known:
#
# $$\text{v1: } \hat Q = Q^\pi - \alpha (I - \gamma P^\pi)^{-1} \left[\mu / \beta\right], \qquad
# \text{v2: } \hat Q = Q^\pi - \alpha (I - \gamma P^\pi)^{-1} \left[\mu / \beta - 1\right].$$
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
num_mdps = 30
num_states, num_actions, discount = 6, 3, 0.9
weights = [0.003, 0.01, 0.03, 0.1, 0.3]  # α
num_improvements = 20  # of the policy that CQL(H) likes


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
        v = jnp.stack([tabular.policy_mean(cases[i][1], q[i]) for i in range(3)])
        return q, v, jnp.max(jnp.abs(h - tabular.cql_v2(mdp, liked, beta, alpha)))

    return jax.lax.map(at, jnp.asarray(weights))


q_gap, v_gap, from_v2 = map(np.asarray, gaps(jax.random.split(jax.random.key(0), num_mdps)))
q_gap, v_gap = np.moveaxis(q_gap, 2, 0), np.moveaxis(v_gap, 2, 0)  # form, MDP, weight, ...

# %% [markdown]
# ## Why "✗ pointwise" is easily missed
#
# Later steps push every $\hat Q$ down by what their states' values lost, so that with a discount
# near 1 single actions above the truth disappear from random MDPs. Without a future they are there:
# wherever $\pi < \beta$. And the value is bounded for $\mu = \pi$ alone: any policy that prefers
# those actions is over-estimated.

# %%
discounts = [0.0, 0.2, 0.4, 0.6, 0.8, 0.95]


@jax.jit
@jax.vmap
def share_above(key):
    """The share of pairs that v2 over-estimates, by discount."""
    mdp_key, policy_key, behavior_key = jax.random.split(key, 3)
    policy, beta = random_policy(policy_key), random_policy(behavior_key)

    def at(discount):
        mdp = tabular.random_mdp(mdp_key, num_states, num_actions, discount=discount)
        gap = tabular.cql_v2(mdp, policy, beta, 0.1) - tabular.q_value(mdp, policy)
        return jnp.mean((gap > 1e-4).astype(float))

    return jax.vmap(at)(jnp.asarray(discounts))


above = np.asarray(share_above(jax.random.split(jax.random.key(1), num_mdps))).mean(0)

bandit = tabular.MDP(
    transition=jnp.ones((1, 2, 1)),
    reward=jnp.zeros((1, 2)),
    terminal=jnp.ones((1, 2)),  # one step
    initial=jnp.ones(1),
    discount=jnp.float32(0.9),
)
pi, beta = jnp.array([[0.1, 0.9]]), jnp.array([[0.5, 0.5]])
bandit_gap = np.asarray(tabular.cql_v2(bandit, pi, beta, 0.1) - tabular.q_value(bandit, pi))[0]
assert bandit_gap[0] > 0 > bandit_gap[1] and np.asarray(pi)[0] @ bandit_gap < 0

# %% [markdown]
# ## Two slips of the slides
#
# The slides of v1 and v2 put $\frac{1}{2\alpha}$ on the Bellman error, those of CQL(H) and
# CQL($\mathcal R$) put $\alpha$ on the penalty and $\frac12$ on the Bellman error. The second is
# $\alpha$ times the first: one minimiser, where both gradients vanish.
#
# The slide of v1 maximises over $\mu$ without a regulariser $\mathcal R(\mu)$. That is a hard
# maximum: all of $\mu$ on one action, the limit $T \to 0$ of the soft maximum
# $T \log \sum_a e^{Q/T}$ of CQL(H), whose gradient is $\mu$. The paper's v1 fixes $\mu$.

# %%
mu, target = jnp.array([[0.2, 0.3, 0.5]]), jnp.array([[1.0, -1.0, 0.5]])
data, alpha = jnp.array([[0.6, 0.3, 0.1]]), 0.1


def printed_v1(q):
    return jnp.sum(mu * q) + jnp.sum(data * (q - target) ** 2) / (2 * alpha)


def printed_with_alpha(q):
    return alpha * jnp.sum(mu * q) + jnp.sum(data * (q - target) ** 2) / 2


minimiser = target - alpha * tabular.action_ratio(mu, data)
for loss in (printed_v1, printed_with_alpha):
    np.testing.assert_allclose(jax.grad(loss)(minimiser), 0, atol=1e-5)

pushed = {T: jax.grad(lambda q, T=T: logsumexp(q, T).sum())(target)[0] for T in (1.0, 0.01)}
assert pushed[0.01].max() > 0.999 > 0.9 > pushed[1.0].max()

# %%
figure, (values, pointwise, example) = plt.subplots(
    1, 3, figsize=(10, 3.3), layout="constrained", width_ratios=(1.3, 1, 0.9)
)
for gap, name, marker in zip(v_gap, ("v1", "v2", "CQL(H), π = softmax Q̂"), "osD", strict=True):
    by_weight = gap.swapaxes(0, 1).reshape(len(weights), -1)
    (line,) = values.loglog(weights, np.median(-by_weight, 1), marker + "-", label=name)
    low, high = np.percentile(-by_weight, (5, 95), axis=1)
    values.fill_between(weights, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
values.set(xlabel="weight α", ylabel="how far V̂ is below V")
values.legend(frameon=False)
pointwise.plot(discounts, 100 * above, "s-", color="C1")
pointwise.set(xlabel="discount γ", ylabel="% of Q̂(s, a) above Q, v2", ylim=(0, None))
bars = [*bandit_gap, np.asarray(pi)[0] @ bandit_gap]
example.bar(["a₁: π < β", "a₂: π > β", "value"], bars, color=["C3", "C2", "C2"])
example.axhline(0, color="black", linewidth=0.8)
example.set(ylabel="v2 − truth, two actions")

# %%
slack = 1e-4  # of single precision
assert (q_gap[0] < 0).all(), "v1 is below everywhere"
assert (v_gap < slack).all(), "the value is below in all three"
assert (v_gap[1] >= v_gap[0]).all(), "v2 is tighter than v1"
assert from_v2.max() < 1e-3, "CQL(H) of the policy that it likes is v2"
tighter = np.median(v_gap[0] / v_gap[1])
conclusion = (
    f"On {num_mdps} random MDPs and {len(weights)} weights v1 is below the truth at every action "
    f"and v2 and CQL(H) in every state's value (v2 with a gap {tighter:.1f} times smaller in the "
    f"median), but v2 is above it at {100 * above[0]:.0f}% of the actions without a future, "
    f"{100 * above[-1]:.0f}% at γ = {discounts[-1]}."
)
print(conclusion)
