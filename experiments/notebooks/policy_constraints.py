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
# # Policy constraints
#
# Policies that stay near the behaviour $\beta$ ask the critic only where it was trained. With a
# KL penalty the best of them has a closed form,
#
# $$\max_\pi \mathbb{E}_\pi Q - \alpha \, \mathrm{KL}(\pi \| \beta)
# \quad\Rightarrow\quad \pi(a|s) \propto \beta(a|s) \, e^{Q(s, a) / \alpha},$$
#
# which is never positive where $\beta$ is not, however large $Q$ is there.

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax import ALGORITHMS, data, grid, init, learn, stack, tabular
from offrl_jax.networks.modules import MLP

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
num_steps = 1_500
num_seeds = 3
temperatures = [0.01, 0.02, 0.05, 0.1, 0.3, 1.0]  # α of the closed form
num_actions = 400  # of the tables
methods = ["SAC", "TD3+BC", "BCQ", "BEAR", "BRAC-p", "BRAC-v"]
is_full_size = True  # so that what was learnt is asserted

# %% [markdown]
# ## The closed form, computed and learnt
#
# One state; the data's actions are uniform on [−0.5, 0.1] and pay $r = 1 + 0.2 a$, rising to the
# edge of the data. On a table of actions $\pi \propto \beta e^{Q/\alpha}$ is exact. Weighted
# cloning (`awac`) learns the same policy without ever seeing $\beta$: it clones the data's actions
# with weights $e^{A/\alpha}$. Temperatures and seeds are the axes of one program.

# %%
LOW, HIGH = -0.5, 0.1
rng = np.random.default_rng(0)
action = rng.uniform(LOW, HIGH, (500, 1))
nothing, ends = np.zeros((500, 1)), np.ones(500)
bandit = data.dataset_from_arrays(
    nothing, action, 1 + 0.2 * action[:, 0], ends, next_observation=nothing
)
keys = jax.random.split(jax.random.key(1), num_seeds)
settings = {  # by field, for whichever algorithm has it
    "actor_network": MLP((16, 16)),
    "critic_network": MLP((16, 16)),
    "behavior_network": MLP((16, 16)),
    "batch_size": 32,
    "learning_rate": 3e-3,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "behavior_learning_rate": 3e-3,
    "temperature_learning_rate": 3e-3,
    "multiplier_learning_rate": 1e-2,
    "initial_temperature": 0.01,
    "num_behavior_steps": 500,
    "num_warmup_steps": 0,
}


def config_of(name, **changes):
    config_type = ALGORITHMS[name].Config
    names = {field.name for field in dataclasses.fields(config_type)}
    return config_type(**{k: v for k, v in settings.items() if k in names} | changes)


table = jnp.linspace(-1, 1, num_actions)
beta = ((table > LOW) & (table < HIGH)).astype(float)[None]
beta = beta / beta.sum()
closed = []
for temperature in temperatures:
    pi, _ = tabular.kl_best_response(1 + 0.2 * table[None], beta, temperature)
    closed.append(float(tabular.policy_mean(pi, table[None])[0]))

awac = ALGORITHMS["awac"]
configs = stack(grid(config_of("awac", weight="softmax"), advantage_temperature=temperatures))
by_setting = jax.random.split(jax.random.key(1), (len(temperatures), num_seeds))
state = init(awac, configs, bandit.spec, by_setting)
state, _ = learn(awac, configs, bandit, state, by_setting, num_steps=num_steps)


def mean_action(config, state):
    drawn = awac.act(config, state, jnp.zeros((1000, 1)), jax.random.key(2))
    return jnp.mean(drawn)


learnt = np.asarray(
    jax.vmap(jax.vmap(mean_action, in_axes=(None, 0)))(configs, state)
)  # temperatures by seeds

# %% [markdown]
# ## A critic that extrapolates upwards
#
# Soft actor-critic on the same data: its critics extend the slope beyond the edge, and its policy
# follows them to an action that the data never show. With a constraint, each of another kind,
# policies stay.

# %%
cases = {
    "SAC": ("sac", {}),
    "TD3+BC": ("td3_bc", {}),
    "BCQ": ("bcq", {}),
    "BEAR": ("bear", {"mmd_kernel": "gaussian", "behavior": "gaussian", "mmd_sigma": 1.0}),
    "BRAC-p": ("brac", {"variant": "p", "divergence_weight": 1.0}),
    "BRAC-v": ("brac", {"variant": "v", "divergence_weight": 1.0}),
}
chosen = {}
for label in methods:
    name, changes = cases[label]
    algorithm, config = ALGORITHMS[name], config_of(name, **changes)
    state = init(algorithm, config, bandit.spec, keys)
    state, _ = learn(algorithm, config, bandit, state, keys, num_steps=num_steps)
    act = jax.vmap(lambda s, a=algorithm, c=config: a.act(c, s, jnp.zeros((1, 1)), None))
    chosen[label] = np.asarray(act(state)).ravel()
    if label == "SAC":
        believed = jax.vmap(
            lambda s, a=algorithm, c=config: a.q_values(
                c, s, jnp.zeros((num_actions, 1)), table[:, None]
            ).min(0)
        )(state)

# %% [markdown]
# ## Where BRAC-v pays
#
# The slide subtracts the penalty at $s$, outside the discount; the paper and its code at $s'$,
# inside:
#
# $$\text{slide:}\quad y = r - \alpha D(s) + \gamma \, \mathbb{E}\, Q(s', a'), \qquad
# \text{paper:}\quad y = r + \gamma \, \mathbb{E} \left[ Q(s', a') - \alpha D(s') \right].$$
#
# Their fixed points differ by $\alpha D(s)$: in scale, not in the order of a state's actions. (In
# the library: `penalty_position`.)

# %%
mdp_key, policy_key, behavior_key = jax.random.split(jax.random.key(3), 3)
mdp = tabular.random_mdp(mdp_key, 12, 3, discount=0.9)
policy, behavior = (
    jax.random.dirichlet(key, jnp.ones(3), (12,)) for key in (policy_key, behavior_key)
)
alpha, divergence = 0.1, tabular.kl(policy, behavior)
q_of = {
    position: tabular.brac_v(mdp, policy, divergence, alpha, penalty_position=position)
    for position in ("state", "next_state")
}
paid = {
    "state": jnp.broadcast_to(alpha * divergence[:, None], mdp.reward.shape),
    "next_state": mdp.discount * mdp.successors() @ (alpha * divergence),
}
for position, q in q_of.items():  # the closed forms are what the targets converge to
    iterated = tabular.penalised_evaluation(mdp, policy, paid[position])
    np.testing.assert_allclose(q, iterated, atol=1e-3)
apart = np.asarray(q_of["next_state"] - q_of["state"])
np.testing.assert_allclose(apart, np.tile(alpha * divergence[:, None], (1, 3)), atol=1e-4)

# %%
figure, ((form, critic), (actions, placement)) = plt.subplots(
    2, 2, figsize=(9, 6), layout="constrained"
)
form.semilogx(temperatures, closed, "k-", label="π ∝ β exp(Q/α), on a table")
form.plot(temperatures, learnt, "o", color="C0", alpha=0.7)
form.plot([], [], "o", color="C0", label="learnt by weighted cloning, seeds")
form.set(xlabel="temperature α", ylabel="mean action", title="The closed form", ylim=(-0.3, 0.15))
form.legend(frameon=False, loc="upper right")
for axes in (critic, actions):
    axes.axvspan(LOW, HIGH, color="0.88")
    axes.set(xlabel="action", xlim=(-1.05, 1.05))
critic.plot(table, believed.T, color="C3", linewidth=1.5)
critic.plot(action[:60], 1 + 0.2 * action[:60], ".", color="black", markersize=3)
critic.set(ylabel="Q of SAC, seeds", title="What an unconstrained critic believes")
critic.annotate("data", (-0.2, 0.05), xycoords=("data", "axes fraction"), ha="center")
for row, values in enumerate(chosen.values()):
    inside = (values > LOW) & (values < HIGH)
    actions.scatter(values, np.full(num_seeds, row), c=np.where(inside, "C2", "C3"), s=40)
actions.set_yticks(range(len(chosen)), list(chosen))
actions.invert_yaxis()
actions.set_title("The actions chosen")
placement.plot(
    np.repeat(alpha * divergence, 3), apart.ravel(), "o", color="C4", alpha=0.6, label="all (s, a)"
)
line = [0, float(alpha * divergence.max())]
placement.plot(line, line, "k--", label="α D(s)")
placement.set(xlabel="α D(s)", ylabel="Q of the paper − Q of the slide")
placement.set_title("BRAC-v's two fixed points")
placement.legend(frameon=False)

# %%
far = np.abs(learnt.mean(1) - closed).max()
constrained = np.concatenate([values for label, values in chosen.items() if label != "SAC"])
if is_full_size:
    assert far < 0.04
    assert (chosen["SAC"] > 0.9).all()
    assert ((constrained > LOW) & (constrained < HIGH)).all()
conclusion = (
    f"Weighted cloning learns π ∝ β exp(Q/α) to within {far:.3f} in the mean action at every "
    f"temperature; unconstrained actor-critic acts at {chosen['SAC'].min():+.2f} and beyond where "
    f"the data end at {HIGH:+.1f}, and the constrained ones between {constrained.min():+.2f} and "
    f"{constrained.max():+.2f}."
)
print(conclusion)
