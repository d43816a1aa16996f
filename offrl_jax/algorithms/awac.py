"""AWAC: an actor-critic whose actor clones the data's actions, weighted by e^{A/λ}.

Citation: Nair et al. 2020, arXiv:2006.09359.
Update order: `advantage_weighted.update`.
Checked against: the authors' code (rail-berkeley/rlkit at ac45a9d: weight softmax) and CORL's
`awac.py` (6afec90: weight exponential). Departures: σ starts at 1, rlkit's at e⁻³; no weight
decay; no clip of A (at 0.5 in rlkit's hand tasks); CORL's actor uses critics that have already
stepped and a mean without tanh.
"""

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import advantage_weighted
from offrl_jax.algorithms.common.advantage_weighted import (
    AdvantageWeightedConfig,
    AdvantageWeightedState,
)
from offrl_jax.algorithms.common.critics import state_q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import exponential_weight, softmax_weight
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class AWACConfig(AdvantageWeightedConfig):
    weight: str = setting(
        "exponential",
        "exponential: e^{A/λ}; softmax: the same over its mean in the batch",
        choices=("exponential", "softmax"),
    )
    advantage_temperature: float = setting(1 / 3, "λ: small is greedy, large is cloning", low=1e-6)
    max_weight: float = setting(100.0, "clip of the exponential weight", low=1)


def weight_of(config: AWACConfig, advantage: Float[Array, "B"]) -> Float[Array, "B"]:
    """w = min(e^{A/λ}, w_max), or e^{A/λ} over its mean in the batch.

    Source: Nair et al. 2020, arXiv:2006.09359, eq. 13; the authors' code normalises by the batch.
    """
    scaled = advantage / config.advantage_temperature
    if config.weight == "softmax":
        return softmax_weight(scaled)
    return exponential_weight(scaled, config.max_weight)


def update(
    config: AWACConfig, state: AdvantageWeightedState, batch: Transition, key: Key
) -> tuple[AdvantageWeightedState, Metrics]:
    return advantage_weighted.update(config, state, batch, key, weight_of)


awac = Algorithm(
    name="awac",
    Config=AWACConfig,
    init=advantage_weighted.init,
    update=update,
    act=advantage_weighted.act,
    value=advantage_weighted.value,
    citation="Nair et al. 2020, arXiv:2006.09359",
    q_values=state_q_values,
)
