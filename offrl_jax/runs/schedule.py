"""Checks a run's settings, and plans its chunks of updates, evaluations and keys."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from offrl_jax import learner
from offrl_jax.algorithms.base import Algorithm, Phase, check_actions, phases_of
from offrl_jax.config import validate
from offrl_jax.data.dataset import Data
from offrl_jax.types import InputError, Key

MAX_CHUNK = 1000  # most updates between two reports of progress


def check(
    algorithm: Algorithm,
    configs: Sequence[Any],
    dataset: Data,
    *,
    num_steps: int,
    num_evaluations: int,
    num_seeds: int,
    seed: int,
    seed_batch: int | None,
) -> list[tuple[int, bool]]:
    """The `schedule` of settings that train together, after checking them.

    Raises:
      InputError: if a setting cannot be trained on the data, or not in this number of steps.
    """
    for config in configs:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(config)):
            raise InputError(
                "a run takes one setting, not a stack of them; use `learn` for several"
            )
        validate(config)
        learner.check_data(algorithm, config, dataset)
    config = configs[0]
    check_actions(algorithm, config, dataset.spec)
    dispatches = schedule(phases_of(algorithm, config), num_steps, num_evaluations)
    if config.batch_size > len(dataset):
        raise InputError(
            f"batch_size={config.batch_size} is more than the {len(dataset)} transitions of "
            f"{dataset.spec.name}; give a smaller one"
        )
    if len({getattr(config, "discount", None) for config in configs}) > 1:
        raise InputError(
            "settings that train together share their data's returns-to-go, so they cannot differ "
            "in discount; train them one after another"
        )
    seed_keys(seed, num_seeds)
    learner.check_seed_batch(seed_batch, len(configs) * num_seeds)
    return dispatches


def schedule(
    phases: Sequence[Phase], num_steps: int, num_evaluations: int
) -> list[tuple[int, bool]]:
    """The lengths of a run's dispatches, and whether an evaluation follows each.

    Args:
      phases: All but the last have their own lengths and are not evaluated.
      num_steps: Updates in the last phase.
      num_evaluations: Number of evaluations, equally spaced over the last phase.

    Raises:
      InputError: if the evaluations cannot be equally spaced.
    """
    *earlier, last = phases
    dispatches = []
    for phase in earlier:
        chunk = chunk_size(phase.num_steps, 1, len(phase.updates))
        dispatches += [(chunk, False)] * (phase.num_steps // chunk)
    chunk = chunk_size(num_steps, num_evaluations, len(last.updates))
    each = num_steps // num_evaluations // chunk
    return dispatches + [(chunk, i % each == 0) for i in range(1, num_steps // chunk + 1)]


def chunk_size(num_steps: int, num_evaluations: int, cycle: int = 1) -> int:
    """Updates per dispatch: the largest divisor, at most 1000, of the updates per evaluation, so
    that one compiled program serves the whole run; all of them if the divisors are tiny.

    Divisors that hold whole cycles of alternating updates come first, since another program is
    compiled for each place in the cycle that a dispatch starts at.

    Raises:
      InputError: if the evaluations cannot be equally spaced.
    """
    if num_steps < 1 or num_evaluations < 1 or num_steps % num_evaluations:
        good = max(1, round(num_steps / max(1, num_evaluations))) * max(1, num_evaluations)
        raise InputError(
            f"num_steps={num_steps} cannot be split into num_evaluations={num_evaluations} equal "
            f"parts; num_steps={good} can"
        )
    share = num_steps // num_evaluations
    divisors = [d for d in range(min(share, MAX_CHUNK), 0, -1) if share % d == 0]
    divisor = next((d for d in divisors if d % cycle == 0), divisors[0])
    return divisor if divisor >= min(share, MAX_CHUNK // 10) else share


def seed_keys(seed: int, num_seeds: int) -> Key:
    """A key (S,) for each of the seeds from `seed` on.

    Raises:
      InputError: if there is none, or some of them would repeat.
    """
    if num_seeds < 1:
        raise InputError(f"num_seeds={num_seeds}; give at least one")
    if not 0 <= seed <= 2**32 - num_seeds:
        raise InputError(
            f"seed={seed} with {num_seeds} seeds leaves the range of 0 to 2**32 - 1, beyond which "
            "seeds repeat; give a smaller one"
        )
    return jax.vmap(jax.random.key)(np.arange(seed, seed + num_seeds, dtype=np.uint32))
