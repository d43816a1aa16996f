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
# # Q-learning recovers the best policy from random data
#
# Supervised learning does as well as its data. Offline reinforcement learning can do better: from
# $(s, a, r, s')$ alone, drawn by a policy that acts uniformly at random, the fixed point of
#
# $$Q(s, a) \leftarrow r(s, a) + \gamma \, \mathbb{E}_{s'} \max_{a'} Q(s', a')$$
#
# is $Q^*$, as long as the data show every action in every state. Here: a grid world with a goal
# (reward 1), traps (reward −1) and a floor on which one in ten steps slips to a side.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax import tabular

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
sizes = [300, 1_000, 3_000, 10_000, 30_000, 100_000]  # transitions
num_seeds = 5
learning_rate = 0.1
tolerance = 0.05  # of the largest error, of values in [−1, 1], at the largest size
regret = 0.01  # of the greedy policy's return there

# %%
rooms = """
    ...#....
    .#.#.X#.
    .#...X..
    .X.#...G
"""
world = tabular.grid_world(
    rooms.replace(".", "S"),  # episodes begin anywhere
    discount=0.95,
    slip=0.1,
)
mdp = world.mdp
q_star = tabular.q_iteration(mdp)
best = tabular.expected_return(mdp, tabular.greedy_policy(q_star))
behavior = tabular.uniform_policy(mdp)
random_return = tabular.expected_return(mdp, behavior)

# %% [markdown]
# ## From transitions
#
# Episodes of the random policy, from anywhere and cut after 50 steps, feed two learners that never
# see the MDP: *fitted Q-iteration*, which averages the targets of each $(s, a)$ and repeats, and
# *Q-learning*, one pass over the data with a fixed step size $\eta$, whose noise it keeps.


# %%
@jax.jit
def learn(data):
    start, options = jnp.zeros_like(q_star), {"discount": mdp.discount}
    return jnp.stack(
        [
            tabular.fitted_q_iteration(data, start, num_iterations=150, **options),
            tabular.q_learning(data, start, learning_rate=learning_rate, **options),
        ]
    )


error, loss = np.zeros((2, len(sizes), num_seeds, 2))
for i, size in enumerate(sizes):
    for seed in range(num_seeds):
        data = tabular.sample_episodes(
            mdp, behavior, jax.random.key(seed), num=size, max_episode_steps=50
        )
        learnt = learn(data)
        error[i, seed] = jnp.max(jnp.abs(learnt - q_star[None]), axis=(1, 2))
        greedy = jax.vmap(tabular.greedy_policy)(learnt)
        value = jax.vmap(tabular.expected_return, in_axes=(None, 0))(mdp, greedy)
        loss[i, seed] = best - value

# %%
figure, (curve, visits, policy) = plt.subplots(
    1, 3, figsize=(10, 3.1), layout="constrained", width_ratios=(1.15, 1, 1)
)
for i, name in enumerate(("fitted Q-iteration", f"Q-learning, η = {learning_rate}")):
    (line,) = curve.loglog(sizes, np.median(error[..., i], axis=1), "os"[i] + "-", label=name)
    low, high = error[..., i].min(1), error[..., i].max(1)
    curve.fill_between(sizes, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
curve.set(xlabel="transitions", ylabel="max |Q − Q*|", xlim=(200, None))
curve.set_title("median and range of seeds", fontsize="medium")
curve.legend(frameon=False, loc="lower left")

at = mdp.num_states, mdp.num_actions
count = tabular.count_pairs(data, *at).sum(1)
image = visits.imshow(world.on_map(100 * count / count.sum()), cmap="Blues", vmin=0)
bar = figure.colorbar(image, ax=visits, shrink=0.7, orientation="horizontal")
bar.set_label("visits, % of the transitions")
visits.set_title(f"the random policy, worth {random_return:.2f}", fontsize="medium")

q = learnt[0]
image = policy.imshow(world.on_map(q.max(1)), cmap="RdYlGn", vmin=-1, vmax=1)
bar = figure.colorbar(image, ax=policy, shrink=0.7, orientation="horizontal")
bar.set_label("learnt max Q(s, ·)")
policy.set_title(f"the greedy one learnt, {best - loss[-1, -1, 0]:.2f}", fontsize="medium")
step = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])  # x, y of up, right, down, left
ends = np.asarray(world.goal | world.trap)
direction = step[np.asarray(q.argmax(1))]
y, x = world.cell[~ends].T
policy.quiver(
    x,
    y,
    *direction[~ends].T,
    pivot="mid",
    angles="xy",
    scale=1.6,
    scale_units="xy",
    width=0.01,
)
for axes in (visits, policy):
    for letter, where in (("G", world.goal), ("X", world.trap)):
        for row, column in world.cell[np.asarray(where)]:
            axes.text(column, row, letter, ha="center", va="center", weight="bold")
    axes.set(xticks=[], yticks=[], facecolor="0.35")

# %% [markdown]
# ## What the slide's visitation lacks
#
# The slide on notation prints $d^\pi(s) = \frac{1}{1-\gamma} \sum_t \gamma^t d^\pi_t(s)$. The sum
# is $\frac{1}{1-\gamma}$ already where episodes do not end, so a *distribution* needs the factor
# $1 - \gamma$, with which $J(\pi) = \frac{1}{1-\gamma} \sum_s d^\pi(s) \, \mathbb{E}_{a \sim \pi}
# r(s, a)$.

# %%
endless = tabular.random_mdp(jax.random.key(0), 20, 3, discount=0.9)
uniform = tabular.uniform_policy(endless)
visited = tabular.visitation(endless, uniform)
printed = visited / (1 - endless.discount) ** 2  # what the slide's factor gives
reward = tabular.policy_mean(uniform, endless.reward)
np.testing.assert_allclose(visited.sum(), 1, rtol=1e-4)
np.testing.assert_allclose(printed.sum(), 1 / (1 - 0.9) ** 2, rtol=1e-4)
np.testing.assert_allclose(
    visited @ reward / (1 - endless.discount), tabular.expected_return(endless, uniform), rtol=1e-3
)

# %%
largest, worst = np.median(error[-1], axis=0), loss[-1].max(0)
assert largest[0] < tolerance and worst[0] < regret
assert (np.median(error[-1], axis=0) < np.median(error[0], axis=0)).all()
conclusion = (
    f"From {sizes[-1]:,} transitions of a random policy that is worth {random_return:.2f} an "
    f"episode, fitted Q-iteration comes within {largest[0]:.3f} of Q* and Q-learning with a fixed "
    f"step within {largest[1]:.2f}; the worst of {num_seeds} greedy policies falls {worst[0]:.4f} "
    f"and {worst[1]:.3f} short of the best return, {best:.2f}."
)
print(conclusion)
