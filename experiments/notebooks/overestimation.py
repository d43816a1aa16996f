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
# # What critics believe, and what policies get
#
# The slide "CQL, Empirically" has a table of *learned policy value − actual policy value*. It is no
# score: 0 is right, above 0 the critic promises what the policy does not get, and the size says
# nothing of how good the policy is. Here, at first states $s_0$,
#
# $$\mathbb{E}_{s_0} \min_k Q_k(s_0, \pi(s_0)) - \mathbb{E}_{s_0} \sum_t \gamma^t r_t .$$
#
# Unconstrained learners bootstrap from their own errors: too high. A minimum over an ensemble takes
# some of it away. Conservative Q-learning is meant to come out below 0. (The slide's
# "hopper-mixed" is D4RL's hopper-medium-replay, its "kitchen-undirected" kitchen-mixed.)

# %%
import json
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import experiments
from offrl_jax import ALGORITHMS, data, init, learn
from offrl_jax.data.generate.collect import collect
from offrl_jax.data.generate.mazes import MAZES
from offrl_jax.data.generate.waypoints import seek
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.networks.modules import MLP

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
num_transitions = 1_500  # of an expert, five episodes
num_steps, num_evaluations = 5_000, 5
num_seeds = 3
num_episodes = 6
hidden_sizes = (64, 64)
methods = ["1 critic", "2 critics", "10 critics", "CQL(H)"]
is_full_size = True  # so that what was learnt is asserted

# %% [markdown]
# ## A small run
#
# The expert's data of the simple experiment. The first three are soft actor-critic with the minimum
# over 1, 2 and 10 critics; nothing else differs.

# %%
settings = {
    "actor_network": MLP(hidden_sizes),
    "critic_network": MLP(hidden_sizes),
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "temperature_learning_rate": 1e-3,
    "target_update_rate": 0.01,
    "discount": 0.95,
    "backup": "deterministic",  # else Q would count entropy, which a return has none of
    "batch_size": 64,
}
own = {
    "1 critic": ("sac", {"num_critics": 1}),
    "2 critics": ("sac", {"num_critics": 2}),
    "10 critics": ("sac", {"num_critics": 10}),
    "CQL(H)": ("cql", {"num_sampled_actions": 4, "conservative_weight": 1.0}),
}
recording = collect(MAZES["umaze"], num_transitions, controller=lambda maze, rng: seek(maze))
dataset = data.normalize_observations(recording.to_dataset("expert", discount=0.95))
keys = jax.random.split(jax.random.key(0), num_seeds)
chunk = num_steps // num_evaluations
steps = chunk * np.arange(1, num_evaluations + 1)
results = {}
for method in methods:
    name, changes = own[method]
    algorithm, config = ALGORITHMS[name], ALGORITHMS[name].Config(**settings, **changes)
    state = init(algorithm, config, dataset.spec, keys)
    evaluator = Evaluator(algorithm, dataset, (num_seeds,), num_episodes)
    results[method] = []
    for _ in steps:
        state, _ = learn(algorithm, config, dataset, state, keys, num_steps=chunk)
        results[method].append(evaluator(config, state))
    evaluator.close()
error = {m: np.array([r.value_error.mean(1) for r in results[m]]) for m in methods}

# %% [markdown]
# ## The recorded study
#
# `python -m experiments.overestimation` makes the same table at full size; on hopper-medium its
# results are kept in `experiments/results/`. They are read here, not run. There, unlike on the
# slide, ensembles improve with their size, and like there they stay wrong by orders of magnitude.

# %%
path = Path(experiments.__file__).parent / "results/overestimation-hopper-medium.json"
recorded = {row["method"]: row["difference"] for row in json.loads(path.read_text())}

# %%
figure, (live, study) = plt.subplots(
    1, 2, figsize=(9.5, 3.6), layout="constrained", width_ratios=(1, 1.15)
)
for method, marker in zip(methods, "osD^", strict=False):
    (line,) = live.plot(steps, error[method].mean(1), marker + "-", label=method)
    low, high = error[method].min(1), error[method].max(1)
    live.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
live.axhline(0, color="black", linewidth=0.8)
live.set(xlabel="updates", ylabel="learned − actual value", title="this run: expert's maze data")
live.legend(frameon=False)
rows = range(len(recorded))
signs = ["C3" if difference > 0 else "C2" for difference in recorded.values()]
study.barh(rows, list(recorded.values()), color=signs)
for row, difference in zip(rows, recorded.values(), strict=True):
    text = f"{difference:+.0f}" if abs(difference) < 1e4 else f"{difference:+.1e}"
    study.annotate(
        text,
        xy=(difference, row),
        xytext=(4 if difference > 0 else -4, 0),
        textcoords="offset points",
        va="center",
        ha="left" if difference > 0 else "right",
    )
study.set_yticks(rows, list(recorded))
study.invert_yaxis()
study.axvline(0, color="black", linewidth=0.8)
study.set_xscale("symlog", linthresh=10)
study.set(
    xlim=(-1e6, 3e12), xlabel="learned − actual value", title="recorded results: hopper-medium"
)
study.set_xticks([-100, 0, 100, 1e5, 1e8])

# %%
final = {method: error[method][-1] for method in methods}
returns = {m: results[m][-1].episode_return.mean() for m in methods}
if is_full_size:
    assert (final["1 critic"] > 0).all() and (final["2 critics"] > 0).all()
    assert final["1 critic"].mean() > final["10 critics"].mean() > final["CQL(H)"].mean()
    assert (final["CQL(H)"] < 0).all()
    # No score: the critics that are nearest to the truth have a policy that is worth little.
    assert abs(final["10 critics"].mean()) < min(abs(final[m].mean()) for m in own if "10" not in m)
    assert returns["10 critics"] < returns["CQL(H)"] / 2
assert all(value > 1e6 for name, value in recorded.items() if "Ensemble" in name)
assert all(value < 0 for name, value in recorded.items() if "CQL" in name)
found = ", ".join(f"{m} {final[m].mean():+.1f} (return {returns[m]:.0f})" for m in methods)
conclusion = (
    f"Learned minus actual value after {num_steps:,} updates, which is no score: {found}; recorded "
    f"on hopper-medium, CQL(H) {recorded['CQL(H), w = 5']:+.0f}, Eqn. 1 "
    f"{recorded['CQL (Eqn. 1), w = 5']:+.0f} and an ensemble of 20 {recorded['Ensemble(20)']:+.1e}."
)
print(conclusion)
