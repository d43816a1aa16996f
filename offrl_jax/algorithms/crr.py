"""CRR: critic-regularised regression, cloning of those data actions that the critic prefers.

Citation: Wang et al. 2020, arXiv:2006.15134.
Update order: `advantage_weighted.update`.
Checked against: acme (google-deepmind/acme, agents/jax/crr at 41a13e2) and d3rlpy (0599a4f).
Departures: the paper's critic is a distribution, here as in both of those a number; no factor ½ in
the TD loss; acting takes the actor, acme the target actor.
"""

from functools import partial

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.common import advantage_weighted
from offrl_jax.algorithms.common.advantage_weighted import (
    AdvantageWeightedConfig,
    AdvantageWeightedState,
)
from offrl_jax.algorithms.common.critics import minimum_q, state_q_values
from offrl_jax.config import config, setting
from offrl_jax.losses.regression import binary_weight, exponential_weight
from offrl_jax.types import Array, Float, Key, Metrics, Transition


@config
class CRRConfig(AdvantageWeightedConfig):
    weight: str = setting(
        "exponential",
        "exponential: e^{A/β}; binary: 1 where A > 0",
        choices=("exponential", "binary"),
    )
    advantage_temperature: float = setting(1.0, "β of the exponential weight", low=1e-6)
    max_weight: float = setting(20.0, "clip of the exponential weight", low=1)
    num_action_samples: int = setting(
        1, "actions among which acting chooses by e^Q; 1: the policy's mode", low=1
    )
    policy: str = setting(
        "tanh_gaussian",
        "tanh_mean: Gaussian about tanh f(s), one σ for all states; tanh_gaussian: squashed "
        "Gaussian, its σ by state",
        choices=("tanh_mean", "tanh_gaussian"),
    )
    num_baseline_samples: int = setting(4, "m, actions of the baseline", low=1)
    target_update_rate: float = setting(1.0, "Polyak rate of all targets", low=0, high=1)
    target_update_period: int = setting(
        100, "steps between two updates of the targets; with rate 1 they are copies", low=1
    )
    num_critics: int = setting(1, "E, critics whose minimum is used", low=1)


def weight_of(config: CRRConfig, advantage: Float[Array, "B"]) -> Float[Array, "B"]:
    """w = min(e^{A/β}, w_max), or 1[A > 0].

    Source: Wang et al. 2020, arXiv:2006.15134, eq. 3 and 4.
    """
    if config.weight == "binary":
        return binary_weight(advantage)
    return exponential_weight(advantage / config.advantage_temperature, config.max_weight)


def update(
    config: CRRConfig, state: AdvantageWeightedState, batch: Transition, key: Key
) -> tuple[AdvantageWeightedState, Metrics]:
    return advantage_weighted.update(config, state, batch, key, weight_of)


def value(
    config: CRRConfig, state: AdvantageWeightedState, observation: Float[Array, "B O"]
) -> Float[Array, "B"]:
    """min_k Q_k(s, a) of the action taken."""
    action = advantage_weighted.critic_weighted_act(config, state, observation, None)
    return minimum_q(config, state.critic.params, observation, action)


crr = Algorithm(
    name="crr",
    Config=CRRConfig,
    init=partial(advantage_weighted.init, has_target_actor=True),
    update=update,
    act=advantage_weighted.critic_weighted_act,
    value=value,
    citation="Wang et al. 2020, arXiv:2006.15134",
    q_values=state_q_values,
)
