"""Presets of CQL, and the settings that its public implementations run.

  offrl train
      PointMaze umaze, 2 to 3 minutes on two CPU cores: score 96.3 (the data 7.0)
  offrl train --dataset=hopper.hdf5 --recipe=quick
      8 minutes on two CPU cores: 40.9 on hopper-medium rebuilt (the data 48.5), but 11.5 on
      hopper-medium-expert rebuilt (65.2), whose two behaviours it confuses at this budget; there
      --config.conservative_weight=50 comes to 38.1
  offrl train --dataset=hopper.hdf5 --recipe=authors
      three million steps, for a GPU; not measured, as all below

Scores are means of three seeds; intervals, budgets and tuning are in BUILD_NOTES.md. What public
code calls CQL differs; each of these recipes is one of them, whole, by its name:

  authors, authors_antmaze   aviralkumar2907/CQL at d67dbe9; on Gym they name w = 10 too
  jaxcql, jaxcql_antmaze     young-geng/JaxCQL at bac4299; AntMaze from young-geng/CQL issue 2
  corl, corl_antmaze,        tinkoff-ai/CORL at eeeeef2, its umaze and its human Adroit tasks;
  corl_adroit, corl_maze2d   these are the presets of their domains. Its hopper-medium also takes
                             --scale_rewards_by_return_range
  cal_ql, cal_ql_adroit      nakamotoo/Cal-QL at ac6eafe, the offline phase

None of them holds JaxCQL's, CORL's and Cal-QL's orthogonal first weights and their policies' log
deviations less 1 (constant in JaxCQL's AntMaze), nor the clip of the data's actions to ±0.999 or
±0.99999 in the critics; Cal-QL's Adroit data also drop failures and end at the last success.
PointMaze's and quick are ours. For Kitchen nobody published verified settings: Adroit's.
"""

from typing import Any

from offrl_jax.networks.modules import MLP
from offrl_jax.presets.common import MLP_256, SMALL_SOFT, pointmaze, quick
from offrl_jax.presets.preset import Preset

DEEP = MLP((256, 256, 256))
PLAIN = {  # every field in which a recipe below may differ from the next
    "variant": "h",
    "conservative_weight": 5.0,
    "num_sampled_actions": 10,
    "lagrange": "off",
    "lagrange_threshold": 5.0,
    "initial_log_multiplier": 0.0,
    "backup": "deterministic",
    "min_difference": -1e30,
    "calibrated": False,
    "cut_return": "zero",
    "num_warmup_steps": 0,
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
    "temperature_learning_rate": 3e-4,
    "initial_temperature": 1.0,
    "target_update_rate": 0.005,
    "actor_network": MLP_256,
    "critic_network": MLP_256,
    "batch_size": 256,
}


def published(actor_learning_rate: float, config: dict[str, Any], **preset: Any) -> Preset:
    """`PLAIN` with changes; all of them take the actor's rate for the temperature too."""
    rates = {
        "actor_learning_rate": actor_learning_rate,
        "temperature_learning_rate": actor_learning_rate,
    }
    return Preset(config=PLAIN | rates | config, **preset)


AUTHORS = {"actor_network": DEEP, "critic_network": DEEP, "num_warmup_steps": 40_000}
JAXCQL_LAGRANGE = {
    "lagrange": "jaxcql",
    "initial_log_multiplier": 1.0,
    "backup": "max_min",
}
CORL = {"actor_network": DEEP, "critic_network": DEEP}
ANTMAZE_REWARDS = {"reward_scale": 10.0, "reward_bias": -5.0}

PUBLISHED = {
    "authors": published(1e-4, AUTHORS, num_steps=3_000_000),
    "authors_antmaze": published(
        1e-4,
        AUTHORS | {"lagrange": "authors", "lagrange_threshold": 5.0},
        num_steps=3_000_000,
        reward_scale=4.0,
        reward_bias=-2.0,
    ),
    "jaxcql": published(3e-4, {}, num_steps=2_000_000),
    "jaxcql_antmaze": published(
        1e-4,
        JAXCQL_LAGRANGE
        | {
            "lagrange_threshold": 0.2,
            "min_difference": -200.0,
            "critic_network": DEEP,
            "num_warmup_steps": 40_000,
        },
        num_steps=1_200_000,
        **ANTMAZE_REWARDS,
    ),
    "corl": published(3e-5, CORL | {"conservative_weight": 10.0}, normalize_observations=True),
    "corl_antmaze": published(
        1e-4,
        CORL
        | JAXCQL_LAGRANGE
        | {
            "lagrange_threshold": 0.8,
            "min_difference": -200.0,
            "critic_network": MLP((256,) * 5),
        },
        **ANTMAZE_REWARDS,
    ),
    "corl_adroit": published(
        1e-4, CORL | {"conservative_weight": 1.0}, normalize_observations=True
    ),
    "corl_maze2d": published(
        3e-5,
        CORL
        | {
            "conservative_weight": 10.0,
            "lagrange": "jaxcql",
            "lagrange_threshold": 5.0,
            "initial_log_multiplier": 1.0,
        },
        normalize_observations=True,
    ),
    "cal_ql": published(
        1e-4,
        JAXCQL_LAGRANGE
        | {
            "calibrated": True,
            "cut_return": "last_reward",
            "lagrange_threshold": 0.8,
            "critic_network": MLP((256,) * 4),
        },
        **ANTMAZE_REWARDS,
    ),
    "cal_ql_adroit": published(
        1e-4,
        {
            "calibrated": True,
            "cut_return": "last_reward",
            "conservative_weight": 1.0,
            "backup": "max_min",
            "actor_network": MLP((512, 512)),
            "critic_network": MLP((512, 512, 512)),
        },
        num_steps=20_000,
        reward_scale=10.0,
        reward_bias=5.0,
    ),
}

PRESETS = {
    "pointmaze": pointmaze(SMALL_SOFT | {"conservative_weight": 5.0, "num_sampled_actions": 4}),
    "gym": PUBLISHED["corl"],
    "antmaze": PUBLISHED["corl_antmaze"],
    "adroit": PUBLISHED["corl_adroit"],
    "kitchen": PUBLISHED["corl_adroit"],
}

RECIPES = {
    "quick": quick(PLAIN | SMALL_SOFT | {"conservative_weight": 10.0, "num_sampled_actions": 4}),
    **{name: vars(preset) for name, preset in PUBLISHED.items()},
}
