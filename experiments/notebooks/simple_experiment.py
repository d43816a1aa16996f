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
# # A simple experiment: actor-critic on an expert's data
#
# Give the data of an expert to an off-policy actor-critic. It fails, and the slides ask why. Is it
# overfitting? Then more data would help. Are the data bad? Then cloning them would fail too.
# Neither is the case. The critic is trained at the data's $(s, a)$ and *asked* at $a' \sim \pi$:
#
# $$Q(s, a) \leftarrow r(s, a) + \gamma \, \mathbb{E}_{a' \sim \pi} Q(s', a').$$

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax import ALGORITHMS, data, init, learn
from offrl_jax.data.generate.collect import collect
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.data.generate.waypoints import seek
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.evaluation.statistics import bootstrap_interval
from offrl_jax.networks.heads import init_outputs, outputs
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.optimizers import Trainable

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
sizes = [1_500, 6_000, 24_000]  # transitions of the expert
num_steps = 5_000
num_seeds = 8
num_episodes = 8
hidden_sizes = (64, 64)
discount = 0.95
num_fits, num_fit_steps = 20, 1_500  # of the picture in one dimension
is_full_size = True  # so that the claims about the maze are asserted

# %% [markdown]
# ## Distribution shift in a nutshell
#
# A network fitted to noisy values of $f(x) = \sin 4x$, with $x \le 0.2$ in the data, is good where
# the data are. Its *maximum* is not asked for there: the search for $\arg\max_x f_\theta(x)$ ends
# where $f_\theta$ is wrong upwards.


# %%
def f(x):
    return jnp.sin(4 * x)


network = MLP((64, 64))
grid = jnp.linspace(-1, 1, 201)[:, None]


@jax.jit
@jax.vmap
def fit(key):
    """f_θ on the grid, and the data."""
    x_key, noise_key, init_key = jax.random.split(key, 3)
    x = jax.random.uniform(x_key, (100, 1), minval=-1, maxval=0.2)
    y = f(x) + 0.1 * jax.random.normal(noise_key, x.shape)

    def loss(params):
        return jnp.mean((outputs(network, params, x) - y) ** 2), None

    def step(_, fitted):
        return fitted.minimize(loss, learning_rate=3e-3)[0]

    fitted = Trainable.create(init_outputs(network, 1, init_key, x))
    fitted = jax.lax.fori_loop(0, num_fit_steps, step, fitted)
    return outputs(network, fitted.params, grid)[:, 0], x, y


fits, x, y = fit(jax.random.split(jax.random.key(0), num_fits))
best = jnp.argmax(fits, axis=1)
is_outside = grid[best, 0] > 0.2
excess = jnp.max(fits, axis=1) - f(grid[best, 0])  # believed less true, at the maximum

# %% [markdown]
# ## The experiment
#
# A scripted controller walks a point through a maze to its goal and stays there. Behaviour cloning
# (`bc`) and soft actor-critic (`sac`) get the same transitions, networks, steps and seeds, from few
# transitions to many.

# %%
maze = MAZES["umaze"]
recording = collect(maze, sizes[-1], controller=lambda maze, rng: seek(maze))
keys = jax.random.split(jax.random.key(0), num_seeds)
bc, sac = ALGORITHMS["bc"], ALGORITHMS["sac"]
configs = {
    bc: bc.Config(network=MLP(hidden_sizes), learning_rate=1e-3, batch_size=64),
    sac: sac.Config(
        actor_network=MLP(hidden_sizes),
        critic_network=MLP(hidden_sizes),
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        temperature_learning_rate=1e-3,
        target_update_rate=0.01,
        discount=discount,
        backup="deterministic",  # else Q would count entropy, which a return has none of
        batch_size=64,
    ),
}
expert = data.episode_returns(recording.to_dataset("expert")).mean()
results = {}
for size in sizes:
    few = recording._replace(arrays={k: rows[:size] for k, rows in recording.arrays.items()})
    dataset = data.normalize_observations(few.to_dataset("expert", discount=discount))
    for algorithm, config in configs.items():
        state = init(algorithm, config, dataset.spec, keys)
        state, _ = learn(algorithm, config, dataset, state, keys, num_steps=num_steps)
        evaluator = Evaluator(algorithm, dataset, (num_seeds,), num_episodes)
        results[algorithm.name, size] = evaluator(config, state)
        evaluator.close()

# %%
figure, (picture, returns, values) = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
picture.plot(grid, fits[:8].T, color="C0", alpha=0.5, linewidth=1)
picture.plot([], color="C0", label="fits")
picture.plot(grid, f(grid), "k--", label="truth")
picture.plot(x[0], y[0], ".", color="0.4", markersize=4, label="data of one fit")
picture.plot(grid[best[:8], 0], jnp.max(fits[:8], axis=1), "*", color="C3", label="their maxima")
picture.set(xlabel="x", ylabel="f(x)", ylim=(-1.6, None))
picture.legend(frameon=False, loc="upper left", fontsize="small")


def draw(axes, name, what, color, shift=1.0, label=None):
    """Means over seeds with 95% intervals, and the seeds."""
    by_size = [getattr(results[name, size], what).mean(1) for size in sizes]
    low, high = np.transpose([bootstrap_interval(v, statistic=np.mean) for v in by_size])
    middle = np.mean(by_size, 1)
    at = shift * np.array(sizes)
    axes.errorbar(at, middle, [middle - low, high - middle], fmt="o-", color=color, label=label)
    axes.plot(at, by_size, ".", color=color, alpha=0.4)


draw(returns, "bc", "episode_return", "C2", 0.95, "behaviour cloning")
draw(returns, "sac", "episode_return", "C3", 1.05, "soft actor-critic")
returns.axhline(expert, color="black", linestyle="--", label="the expert")
returns.set(ylabel="return", ylim=(-5, None))
returns.legend(frameon=False, loc="center left", fontsize="small")
draw(values, "sac", "learned_value", "C3", 0.95, "Q of its own actions")
draw(values, "sac", "actual_value", "C0", 1.05, "its discounted return")
values.set(ylabel="value at first states, soft actor-critic", ylim=(-0.5, None))
values.legend(frameon=False, fontsize="small")
for axes in (returns, values):
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("transitions")

# %%
score = {key: rollouts.episode_return.mean() for key, rollouts in results.items()}
bias = np.mean([results["sac", size].value_error.mean() for size in sizes])
if is_full_size:
    assert is_outside.mean() > 0.8 and jnp.mean(excess) > 1
    assert min(score["bc", size] / expert for size in sizes) > 0.7
    assert max(score["sac", size] / expert for size in sizes) < 0.4
    assert bias > 0
share = {n: [f"{score[n, size] / expert:.0%}" for size in sizes] for n in ("bc", "sac")}
conclusion = (
    f"From {', '.join(f'{size:,}' for size in sizes)} transitions of an expert, cloning returns "
    f"{', '.join(share['bc'])} of what it does and actor-critic {', '.join(share['sac'])}, whose "
    f"critic believes in {bias:.1f} too much; of {num_fits} fitted curves "
    f"{is_outside.mean():.0%} have their maximum outside the data, {excess.mean():.1f} too high."
)
print(conclusion)
