"""How far a policy π is from the behaviour β: by samples, by a critic, in closed form."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from offrl_jax.types import Array, Float, InputError, Scalar

_TINY = 1e-12  # under a square root, whose slope at 0 is infinite


def laplacian_kernel(
    x: Float[Array, "*B N A"], y: Float[Array, "*B M A"], scale: Scalar
) -> Float[Array, "*B N M"]:
    """k(x_i, y_j) = exp( −‖x_i − y_j‖₁ / scale )."""
    return jnp.exp(-jnp.sum(jnp.abs(_differences(x, y)), axis=-1) / scale)


def gaussian_kernel(
    x: Float[Array, "*B N A"], y: Float[Array, "*B M A"], scale: Scalar
) -> Float[Array, "*B N M"]:
    """k(x_i, y_j) = exp( −‖x_i − y_j‖²₂ / scale )."""
    return jnp.exp(-jnp.sum(jnp.square(_differences(x, y)), axis=-1) / scale)


def _differences(x: Array, y: Array) -> Array:
    return jnp.expand_dims(x, -2) - jnp.expand_dims(y, -3)


KERNELS = {"laplacian": laplacian_kernel, "gaussian": gaussian_kernel}

# The published codes disagree: scale is 2σ in BEAR, where σ is not squared, and σ in BRAC.
SIGMA_SCALE = {"bear": 2.0, "brac": 1.0}


def mmd_squared(
    x: Float[Array, "*B N A"],
    y: Float[Array, "*B M A"],
    *,
    kernel: str,
    scale: Scalar,
    unbiased: bool = False,
) -> Float[Array, "*B"]:
    """MMD² = mean_ij k(x_i, x_j) + mean_ij k(y_i, y_j) − 2 mean_ij k(x_i, y_j).

    The first two means include i = j, where k = 1, so that equal distributions have
    E MMD² = (1/N + 1/M) (1 − E k) > 0. Unbiased, they are over i ≠ j, and MMD² may be negative.

    Source: Gretton et al. 2012, JMLR 13, lemma 6 and equation 5; Kumar et al. 2019,
    arXiv:1906.00949, with the biased form.
    """
    n, m = x.shape[-2], y.shape[-2]
    if unbiased and min(n, m) < 2:
        raise InputError(
            f"the unbiased MMD needs two samples of each distribution, not {n} and {m}; draw more"
        )

    def mean(a, b):
        return jnp.mean(KERNELS[kernel](a, b, scale), axis=(-2, -1))

    within_x, within_y = mean(x, x), mean(y, y)
    if unbiased:  # the n pairs with themselves have k = 1
        within_x, within_y = (n * within_x - 1) / (n - 1), (m * within_y - 1) / (m - 1)
    return within_x + within_y - 2 * mean(x, y)


def root(squared: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """√( max(MMD², 0) + 10⁻⁶ ), per state, whose slope is finite at MMD = 0.

    Source: Kumar et al. 2019, arXiv:1906.00949, the constant as in the authors' code; the
    maximum is ours, for rounding and for unbiased estimates below 0.
    """
    return jnp.sqrt(jnp.maximum(squared, 0.0) + 1e-6)


def kl_from_samples(log_p: Float[Array, "*B N"], log_q: Float[Array, "*B N"]) -> Float[Array, "*B"]:
    """KL(p‖q) ≈ mean_i [ log p(a_i) − log q(a_i) ], a_i ~ p.

    Source: Wu et al. 2019, arXiv:1911.11361, section 4, with p = π and q = β; p = β and q = π
    give the reverse KL.
    """
    return jnp.mean(log_p - log_q, axis=-1)


class FDivergence(NamedTuple):
    """D_f(π‖β) = E_β f(π/β) = max_T E_π T − E_β f*(T), the best T being f′(π/β).

    Attributes:
      generator: f(t), t ≥ 0, with f(1) = 0.
      witness: T(c), the raw critic output c mapped into the domain of f*.
      conjugate: f*(T(c)), where f*(T) = max_{t≥0} tT − f(t).
    """

    generator: Callable[[Array], Array]
    witness: Callable[[Array], Array]
    conjugate: Callable[[Array], Array]


def _ratio(c: Array) -> Array:
    return jax.nn.softplus(c) + 1e-8


F_DIVERGENCES = {
    "kl": FDivergence(  # the best critic has g = softplus(c) + 10⁻⁸ = π/β
        lambda t: xlogy(t, t),
        lambda c: 1 + jnp.log(_ratio(c)),
        _ratio,
    ),
    "chi_squared": FDivergence(  # below T = −2 the maximum over t stays at t = 0
        lambda t: jnp.square(t - 1),
        lambda c: c,
        lambda c: jnp.square(jnp.maximum(1 + c / 2, 0)) - 1,
    ),
    "total_variation": FDivergence(
        lambda t: jnp.abs(t - 1) / 2,
        lambda c: jnp.tanh(c) / 2,
        lambda c: jnp.tanh(c) / 2,
    ),
    "jensen_shannon": FDivergence(  # the best critic is c = log π/β
        lambda t: (xlogy(t, t) - (t + 1) * jnp.log((t + 1) / 2)) / 2,
        lambda c: (jnp.log(2.0) - jax.nn.softplus(-c)) / 2,
        lambda c: (jax.nn.softplus(c) - jnp.log(2.0)) / 2,
    ),
}
DUAL_DIVERGENCES = ("wasserstein", *F_DIVERGENCES)


def dual_estimate(
    divergence: str, policy_output: Float[Array, "*B"], behavior_output: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """T(c(a_π)) − f*(T(c(a_β))), or c(a_π) − c(a_β) for the 1-Wasserstein distance.

    Its mean over a_π ~ π and a_β ~ β is a lower bound of the divergence of π from β, reached by
    the best critic c; of the Wasserstein distance only if c is 1-Lipschitz.

    Source: Nowozin et al. 2016, arXiv:1606.00709, equation 4, our Jensen–Shannon being half of
    theirs, so at most log 2; Wu et al. 2019, arXiv:1911.11361, section 4, for KL and Wasserstein.
    """
    if divergence == "wasserstein":
        return policy_output - behavior_output
    f = F_DIVERGENCES[divergence]
    return f.witness(policy_output) - f.conjugate(behavior_output)


def gradient_penalty(
    critic: Callable[[Float[Array, "B A"]], Float[Array, "B"]],
    policy_action: Float[Array, "B A"],
    behavior_action: Float[Array, "B A"],
    mix: Float[Array, "B"],
) -> Float[Array, ""]:
    """mean_b max( ‖∇_a c(a)‖₂ − 1, 0 )² at a = a_π + u (a_β − a_π), u being `mix`.

    Each row of the critic's output may depend on its own row of actions only.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, section 4, made one-sided as in
    Wu et al. 2019, arXiv:1911.11361.
    """
    action = policy_action + jnp.expand_dims(mix, -1) * (behavior_action - policy_action)
    slope = jax.grad(lambda a: jnp.sum(critic(a)))(action)
    norm = jnp.sqrt(jnp.sum(jnp.square(slope), axis=-1) + _TINY)
    return jnp.mean(jnp.square(jnp.maximum(norm - 1, 0)))


def gaussian_kl(
    mean_p: Float[Array, "*B A"],
    log_std_p: Float[Array, "*B A"],
    mean_q: Float[Array, "*B A"],
    log_std_q: Float[Array, "*B A"],
) -> Float[Array, "*B"]:
    """KL(p‖q) = Σ_j log(σ_q/σ_p) + (σ_p² + (μ_p − μ_q)²) / 2σ_q² − ½.

    Also that of tanh-Gaussians with these parameters: a bijection leaves the KL as it is.
    """
    log_ratio = log_std_p - log_std_q
    shift = (mean_p - mean_q) * jnp.exp(-log_std_q)
    return jnp.sum((jnp.exp(2 * log_ratio) + jnp.square(shift) - 1) / 2 - log_ratio, axis=-1)


def gaussian_wasserstein(
    mean_p: Float[Array, "*B A"],
    log_std_p: Float[Array, "*B A"],
    mean_q: Float[Array, "*B A"],
    log_std_q: Float[Array, "*B A"],
) -> Float[Array, "*B"]:
    """W₂(p, q) = √( ‖μ_p − μ_q‖² + ‖σ_p − σ_q‖² ), 10⁻⁶ where p = q.

    Of the Gaussians themselves: unlike the KL, it changes under tanh.

    Source: Dowson and Landau 1982, J. Multivariate Analysis 12, for diagonal covariances.
    """
    shift, spread = mean_p - mean_q, jnp.exp(log_std_p) - jnp.exp(log_std_q)
    return jnp.sqrt(jnp.sum(jnp.square(shift) + jnp.square(spread), axis=-1) + _TINY)


def gaussian_mmd_squared(
    mean_p: Float[Array, "*B A"],
    log_std_p: Float[Array, "*B A"],
    mean_q: Float[Array, "*B A"],
    log_std_q: Float[Array, "*B A"],
    scale: Scalar,
) -> Float[Array, "*B"]:
    """MMD² = κ_pp + κ_qq − 2 κ_pq under the kernel exp( −‖x − y‖²₂ / scale ).

    κ_pq = E k(x, y) = Π_j √( scale / w_j ) exp( −(μ_p − μ_q)_j² / w_j ), x ~ p, y ~ q,
    w = scale + 2 (σ_p² + σ_q²)
    """

    def kappa(mean_x, log_std_x, mean_y, log_std_y):
        width = scale + 2 * (jnp.exp(2 * log_std_x) + jnp.exp(2 * log_std_y))
        log_kernel = jnp.log(scale / width) / 2 - jnp.square(mean_x - mean_y) / width
        return jnp.exp(jnp.sum(log_kernel, axis=-1))

    p, q = (mean_p, log_std_p), (mean_q, log_std_q)
    return kappa(*p, *p) + kappa(*q, *q) - 2 * kappa(*p, *q)
