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
# # Staying near the data: density or support?
#
# A policy constraint needs a distance. The slide's two Kullback–Leibler divergences differ in whose
# actions are averaged over,
#
# $$\mathrm{KL}(\pi \| \beta) = \mathbb{E}_{a \sim \pi} \log \frac{\pi(a)}{\beta(a)}, \qquad
# \mathrm{KL}(\beta \| \pi) = \mathbb{E}_{a \sim \beta} \log \frac{\beta(a)}{\pi(a)},$$
#
# and both compare densities. The maximum mean discrepancy compares samples $x_i \sim \pi$ and
# $y_j \sim \beta$ under a kernel $k$,
#
# $$\mathrm{MMD}^2 =
# \overline{k(x_i, x_{i'})} + \overline{k(y_j, y_{j'})} - 2\, \overline{k(x_i, y_j)}.$$
#
# The slide's intuition, "compare samples regardless of density", needs a condition: that the
# samples are *few*. With many, the MMD of a Gaussian kernel is zero for equal densities alone.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from offrl_jax.losses.divergences import kl_from_samples, mmd_squared, root
from offrl_jax.networks.distributions import Gaussian

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

# %% tags=["parameters"]
num_samples = 250  # for the fits
grid_size = 40  # means by standard deviations of the policies tried
sample_sizes = [2, 4, 8, 16, 32, 64, 128, 256]  # n of the MMD
num_repeats = 400

# %% [markdown]
# ## A Gaussian policy fitted to two modes
#
# The behaviour acts near −0.5 or near 0.5. All Gaussian policies on a grid are judged by the three
# distances. $\mathrm{KL}(\beta \| \pi)$, the likelihood of cloning, covers both modes and puts its
# most likely action where the data have none; $\mathrm{KL}(\pi \| \beta)$, the one that constrained
# actors pay, picks a mode.

# %%
modes = Gaussian(mean=jnp.array([[-0.5], [0.5]]), log_std=jnp.log(jnp.full((2, 1), 0.12)))


def log_beta(action):
    """(N, 1) -> (N,), of the mixture of both modes."""
    by_mode = jax.vmap(lambda a: modes.log_prob(jnp.tile(a, (2, 1))))(action)
    return jax.nn.logsumexp(by_mode, axis=-1) - jnp.log(2.0)


key, mode_key, noise_key, policy_key = jax.random.split(jax.random.key(0), 4)
both = modes.actions(jax.random.normal(noise_key, (2, num_samples, 1)))
mode = jax.random.randint(mode_key, (num_samples,), 0, 2)
data = both[mode, jnp.arange(num_samples)]
noise = jax.random.normal(policy_key, (num_samples, 1))


def distances(mean, log_std):
    """Forward KL up to a constant, reverse KL and MMD² of one policy."""
    policy = Gaussian(mean[None], log_std[None])
    action = mean + jnp.exp(log_std) * noise

    def log_pi(a):
        return jax.vmap(policy.log_prob)(a)

    return (
        kl_from_samples(log_beta(data), log_pi(data)),
        kl_from_samples(log_pi(action), log_beta(action)),
        mmd_squared(action, data, kernel="gaussian", scale=0.1, unbiased=True),
    )


means = jnp.linspace(-1, 1, grid_size)
log_stds = jnp.log(jnp.geomspace(0.05, 1.0, grid_size))


@jax.jit
def on_grid():
    return jax.lax.map(lambda m: jax.lax.map(lambda s: distances(m, s), log_stds), means)


fitted = {}
names = "KL(β‖π), cloning", "KL(π‖β), constrained actors", "MMD"
for name, distance in zip(names, on_grid(), strict=True):
    i, j = np.unravel_index(np.argmin(distance), distance.shape)
    fitted[name] = Gaussian(means[i, None], log_stds[j, None])

# %% [markdown]
# ## Few samples see the support, many the density
#
# Now the behaviour is uniform on [−½, ½]. One policy is uniform on its middle two fifths: another
# density within the support, with $\mathrm{KL}(\pi \| \beta) = \log 2.5$. The other is the
# behaviour moved by its own width, out of the support. Both have $\mathrm{KL}(\beta \| \pi) =
# \infty$. How often does the MMD of $n$ samples of each exceed what it is in 95% of the cases for
# $\pi = \beta$?


# %%
def uniform(low, high, seed, n):
    shape = num_repeats, n, 1
    return jax.random.uniform(jax.random.key(seed), shape, minval=low, maxval=high)


policies = {"the same": (-0.5, 0.5), "within": (-0.2, 0.2), "outside": (0.5, 1.5)}
told = {name: [] for name in policies}
for n in sample_sizes:
    beta = uniform(-0.5, 0.5, 1, n)
    of_n = {
        name: root(mmd_squared(uniform(*ends, 0, n), beta, kernel="gaussian", scale=0.5))
        for name, ends in policies.items()
    }
    usual = jnp.quantile(of_n["the same"], 0.95)
    for name, distance in of_n.items():
        told[name].append(float(jnp.mean((distance > usual).astype(float))))

# %%
figure, (fit, power) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
action = jnp.linspace(-1, 1, 401)[:, None]
fit.fill_between(action[:, 0], jnp.exp(log_beta(action)), color="0.85", label="behaviour β")
for (name, policy), style in zip(fitted.items(), ("-", "--", "-."), strict=True):
    density = jnp.exp(jax.vmap(policy.log_prob)(action))
    fit.plot(action[:, 0], density, style, linewidth=2, label=name)
fit.set(xlabel="action", ylabel="density", ylim=(0, 5.2), title="Gaussians nearest to two modes")
fit.set_xticks([-1, -0.5, 0, 0.5, 1])
fit.legend(frameon=False, loc="upper left")
for (name, label, color), marker in zip(
    (
        ("outside", "outside the support", "C3"),
        ("within", "inside, another density", "C2"),
        ("the same", "π = β", "0.4"),
    ),
    "Dso",
    strict=True,
):
    power.semilogx(sample_sizes, told[name], marker + "-", color=color, label=label)
power.set_xticks(sample_sizes, sample_sizes)
power.minorticks_off()
power.set(xlabel="samples n of each", ylabel="share told apart from β", title="MMD between samples")
power.legend(frameon=False, loc="center left")

# %%
cloned, constrained, _ = fitted.values()
assert abs(cloned.mean[0]) < 0.15 and jnp.exp(cloned.log_std[0]) > 0.4, "covers both modes"
assert abs(abs(constrained.mean[0]) - 0.5) < 0.1 and jnp.exp(constrained.log_std[0]) < 0.2
few, many = sample_sizes.index(4), -1
assert told["within"][few] < 0.1 and told["outside"][few] > 0.9
assert told["within"][many] > 0.9, "with many samples the density is seen"
share = {name: [f"{told[name][i]:.0%}" for i in (few, many)] for name in ("outside", "within")}
conclusion = (
    f"KL(β‖π) centres a policy on two modes at {cloned.mean[0]:+.2f}, where the data have "
    f"nothing, and KL(π‖β) on one at {constrained.mean[0]:+.2f}; an MMD of {sample_sizes[few]} "
    f"samples tells a policy outside the support from the behaviour in {share['outside'][0]} of "
    f"the cases and another density inside it in {share['within'][0]}, one of "
    f"{sample_sizes[many]} samples in {share['within'][1]}."
)
print(conclusion)
