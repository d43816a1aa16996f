"""Flags of the commands that train, and the dataset and settings that they describe."""

from typing import TYPE_CHECKING, Any

from absl import flags

import offrl_jax as orl
from offrl_jax.algorithms import NAMES
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import FLAGS, section

if TYPE_CHECKING:
    from offrl_jax.data import Data

flags.disclaim_key_flags()  # they belong to the command that defines them

DOMAINS = "pointmaze", "gym", "antmaze", "adroit", "kitchen", "discrete", "other"
DIVERGENCE_LIMIT = 1.8446742974197924e19  # beyond it squares are not finite
PRECISIONS = "default", "float32", "bfloat16"

PRESET_FIELDS = (
    "num_steps",
    "normalize_observations",
    "reward_scale",
    "reward_bias",
    "scale_rewards_by_return_range",
)
PASSED_ON = (  # flags that are arguments of runs.train
    "num_seeds",
    "seed",
    "seed_batch",
    "num_evaluations",
    "num_evaluation_episodes",
    "matmul_precision",
    "host_memory_mb",
    "evaluation_timeout",
    "checkpoint_seconds",
    "divergence_limit",
    "fail_on_divergence",
)


def define_run_flags() -> None:
    """Defines them for the calling command."""
    with section("data"):
        define("env_id", "observation_keys", "clip_actions", "trust_dataset_env")
        flags.DEFINE_enum(
            "placement",
            "auto",
            ("auto", "device", "host"),
            "host leaves the rows of a .shards folder on the disk; auto: device if they fit",
        )
        flags.DEFINE_integer(
            "host_memory_mb", 512, "memory for batches of data that are not on the device", 1
        )
        flags.DEFINE_bool("normalize_observations", None, "standardise observations")
        flags.DEFINE_float("reward_scale", None, "r becomes reward_scale · r + reward_bias")
        flags.DEFINE_float("reward_bias", None, "see reward_scale; AntMaze recipes use 1 and −1")
        flags.DEFINE_bool(
            "scale_rewards_by_return_range", None, "r becomes 1000 r / (highest − lowest return)"
        )
        flags.DEFINE_float(
            "best_fraction", 1.0, "keep this share of the episodes, by return", 0.0, 1.0
        )
    with section("algorithm"):
        flags.DEFINE_string(
            "algorithm",
            "cql",
            f"one of {', '.join(NAMES)}, or MODULE:NAME of your own; with it --help lists its "
            "settings",
        )
        flags.DEFINE_enum(
            "preset", "auto", ("auto", "none", *DOMAINS), "auto: by the dataset's environment"
        )
        flags.DEFINE_list(
            "recipe", [], "named settings on top of the preset, such as quick, or brac's kl_control"
        )
    with section("training"):
        flags.DEFINE_integer("num_steps", None, "updates per seed (default: the preset's)", 1)
        flags.DEFINE_integer("num_seeds", 3, "seeds trained at once", 1)
        define("seed")
        flags.DEFINE_integer(
            "seed_batch", None, "runs (settings × seeds) in memory at once; divides their number", 1
        )
        flags.DEFINE_enum(
            "matmul_precision",
            "default",
            PRECISIONS,
            "in training: the backend's own, full float32, or bfloat16 with float32 parameters",
        )
        flags.DEFINE_float(
            "divergence_limit",
            DIVERGENCE_LIMIT,
            "freeze a seed when a metric exceeds this",
            0.0,
        )
        flags.DEFINE_bool(
            "fail_on_divergence", False, "exit with 3 if any seed diverges, not only if all do"
        )
        flags.DEFINE_float(
            "checkpoint_seconds", 60.0, "minimum number of seconds between checkpoints", 0.0
        )
    with section("evaluation"):
        flags.DEFINE_integer(
            "num_evaluations", 5, "equally spaced evaluations, the last at the end", 1
        )
        flags.DEFINE_integer(
            "num_evaluation_episodes", 10, "episodes per seed; 0: no environment is made", 0
        )
        flags.DEFINE_float(
            "evaluation_timeout", 300.0, "maximum number of seconds for an environment step", 0.0
        )


def passed_on() -> dict[str, Any]:
    """Arguments of `runs.train`."""
    return {name: FLAGS[name].value for name in PASSED_ON}


def load(name: str) -> "Data":
    """The dataset of that name, as it is."""
    return orl.load_dataset(
        name,
        env_id=FLAGS.env_id,
        observation_keys=tuple(FLAGS.observation_keys),
        clip_actions=FLAGS.clip_actions,
        trust_dataset_env=FLAGS.trust_dataset_env,
        placement=FLAGS.placement,
    )


def given_presets() -> dict[str, Any]:
    """Fields of a preset that are given as flags."""
    return {name: FLAGS[name].value for name in PRESET_FIELDS if FLAGS[name].value is not None}
