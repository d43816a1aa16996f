"""Every test runs with shape annotations checked and silent broadcasting forbidden."""

import os

import jax
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")
install_import_hook(
    [
        "offrl_jax.networks",
        "offrl_jax.distributions",
        "offrl_jax.losses",
        "offrl_jax.soft_actor_critic",
        "offrl_jax.algorithms",
        "offrl_jax.data.dataset",
    ],
    "beartype.beartype",
)

jax.config.update("jax_numpy_rank_promotion", "raise")
