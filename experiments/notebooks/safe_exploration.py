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
# # Safe exploration: a bound on accidents, and its sign
#
# With a cost of 1 where an accident happens, which ends the episode, $V_C^\pi$ is the discounted
# probability of one. A policy is let act only while $V_C^\pi \le \chi$, so that an *estimate* of it
# must not be too low. Conservative safety critics turn conservative Q-learning round:
#
# $$\min_Q \; \alpha \left( \mathbb{E}_\beta Q - \mathbb{E}_\pi Q \right)
# + \tfrac12 \, \mathbb{E}_\beta \left( Q - \mathcal{B}^\pi Q \right)^2
# \quad\Rightarrow\quad
# \hat V_C = V_C + \alpha (I - \gamma P_\pi)^{-1} \chi^2(\pi \| \beta) \ge V_C .$$
#
# The slide prints the signs of ordinary CQL instead, with the claim of over-estimation. **Those
# signs under-estimate**: a lower bound is what CQL is for, and lower is the wrong side for
# accidents.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax import tabular

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
weights = np.geomspace(1e-3, 0.1, 13)  # α
alpha = 0.02  # of the shield
thresholds = np.geomspace(0.03, 1.0, 41)  # ε of the shield

# %% [markdown]
# ## The value is over-estimated
#
# A cliff walk: the shortest way to the goal passes between traps, and one step in five slips. The
# policy mostly does what is best for the reward; the data come from one that acts uniformly at
# random half of the time.

# %%
world = tabular.grid_world(
    """
    .......
    .......
    S.....G
    .XXXXX.
    """,
    discount=0.9,
    slip=0.2,
    trap_reward=0.0,  # the task does not know of accidents
)
mdp = world.mdp
uniform = tabular.uniform_policy(mdp)
best = tabular.greedy_policy(tabular.q_iteration(mdp))
policy, behavior = 0.7 * best + 0.3 * uniform, 0.3 * best + 0.7 * uniform
cost = jnp.broadcast_to(world.trap[:, None], mdp.reward.shape).astype(float)
truth = tabular.accident_value(mdp, cost, policy)
FORMS = ("value", "pointwise", "lecture")


def critic(form, alpha):
    return tabular.conservative_accident_critic(mdp, cost, policy, behavior, alpha, form=form)


def value(q):
    """V_C of the policy, by state."""
    return tabular.policy_mean(policy, q)


estimate = {
    form: np.asarray(jax.vmap(lambda a, form=form: critic(form, a))(jnp.asarray(weights)))
    for form in FORMS
}
start = int(jnp.argmax(mdp.initial))
true_value = float(value(truth)[start])

# %% [markdown]
# ## Single actions need not be
#
# $\hat Q_C = Q_C + \alpha (I - \gamma P^\pi)^{-1} [\pi / \beta - 1]$ is *below* the truth at the
# last step before an end wherever $\pi < \beta$, while a shield reads it action by action. With
# $\pi$ = (0.1, 0.9), $\beta$ = (½, ½) and $\alpha$ = 0.03 two actions move by −0.024 and +0.024.
# Pushing up uniformly drawn actions and pulling nothing down, as CQL's v1 does, is an upper bound
# everywhere.

# %%
bandit = tabular.MDP(
    transition=jnp.ones((1, 2, 1)),
    reward=jnp.zeros((1, 2)),
    terminal=jnp.ones((1, 2)),
    initial=jnp.ones(1),
    discount=jnp.float32(0.9),
)
pi, beta, free = jnp.array([[0.1, 0.9]]), jnp.array([[0.5, 0.5]]), jnp.zeros((1, 2))
shift = {
    form: tabular.conservative_accident_critic(bandit, free, pi, beta, 0.03, form=form)[0]
    for form in FORMS
}
np.testing.assert_allclose(shift["value"], [-0.024, 0.024], atol=1e-6)

# %% [markdown]
# ## The shield
#
# While it acts, the policy draws again until $\hat Q_C(s, a) \le \varepsilon$, and takes the action
# of least $\hat Q_C$ where it has no such action. (The paper sets
# $\varepsilon = (1 - \gamma)(\chi - \hat V_C(s))$ for the limit $\chi$.) How often the shielded
# policy then has an accident is computed exactly.


# %%
def shielded(threshold, accident_q):
    """The accident value at the start."""
    everywhere = jnp.full(mdp.num_states, threshold)
    safer = tabular.shielded_policy(policy, accident_q, everywhere)
    return tabular.policy_mean(safer, tabular.accident_value(mdp, cost, safer))[start]


critics = {form: critic(form, alpha) for form in FORMS} | {"exact Q_C": truth}
outcome = {
    name: np.asarray(jax.vmap(lambda e, q=q: shielded(e, q))(jnp.asarray(thresholds)))
    for name, q in critics.items()
}

# %%
COLOR = {"value": "C2", "pointwise": "C0", "lecture": "C3", "exact Q_C": "0.3"}
NAME = {
    "value": "corrected sign",
    "pointwise": "pointwise",
    "lecture": "the slide's sign",
    "exact Q_C": "exact",
}
figure, (bound, actions, shield) = plt.subplots(
    1, 3, figsize=(10, 3.3), layout="constrained", width_ratios=(1.1, 0.9, 1.1)
)
for form in FORMS:
    at_start = [float(value(jnp.asarray(q))[start]) for q in estimate[form]]
    bound.semilogx(weights, at_start, color=COLOR[form], label=NAME[form], linewidth=2)
bound.axhline(true_value, color="black", linestyle="--", label="truth")
bound.set(xlabel="weight α", ylabel="accident value at the start")
bound.legend(frameon=False)
for i, form in enumerate(FORMS):
    offset = np.arange(2) + 0.27 * (i - 1)
    actions.bar(offset, shift[form], 0.25, color=COLOR[form])
actions.axhline(0, color="black", linewidth=0.8)
actions.set_xticks([0, 1], ["where π = 0.1", "where π = 0.9"])
actions.set(ylabel="estimate − truth (two actions, β = ½)")
for name in critics:
    shield.semilogx(thresholds, outcome[name], color=COLOR[name], label=NAME[name], linewidth=2)
shield.axhline(true_value, color="black", linestyle="--", label="no shield")
shield.set(xlabel="threshold ε of the shield", ylabel="accident value, shielded", ylim=(0, None))
shield.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.96))

# %%
slack = 1e-6
for form, sign in (("value", 1), ("pointwise", 1), ("lecture", -1)):
    by_state = sign * (jax.vmap(value)(jnp.asarray(estimate[form])) - value(truth))
    assert (by_state >= -slack).all(), form
assert (estimate["pointwise"] >= truth - slack).all()
assert (shift["value"] < 0).any() and (shift["pointwise"] > 0).all()
mean = {name: outcome[name].mean() for name in critics}
assert mean["pointwise"] <= mean["value"] <= mean["exact Q_C"] <= mean["lecture"]
largest = {form: float(value(jnp.asarray(estimate[form][-1]))[start]) for form in FORMS}
conclusion = (
    f"At α = {weights[-1]:.2g} the corrected sign puts the accident value of {true_value:.3f} at "
    f"{largest['value']:.3f} and the slide's at {largest['lecture']:.3f}, in every state on the "
    f"same side; over thresholds, a shield that reads the slide's critic lets "
    f"{mean['lecture'] / mean['value']:.1f} times as many accidents pass as the corrected one, and "
    f"{mean['lecture'] / mean['pointwise']:.1f} times as many as the pointwise one."
)
print(conclusion)
