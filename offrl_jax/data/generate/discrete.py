"""CartPole, LunarLander and Acrobot, played by policies that this library trained.

The critics in `policies/` come from rounds of training on all data so far and collecting more, that
begin with random actions. Of LunarLander, whose rounds 1 to 6 were, for seeds i from 0 to 3,

  offrl collect --env_id=LunarLander-v3 --num_transitions=50000 --output=0.npz
  offrl train --algorithm=dqn --dataset=LAST.npz --run_dir=runs/ROUND \\
      --num_seeds=4 --num_steps=20000 --config.critic_network=64x64 \\
      --config.critic_learning_rate=1e-3 --config.batch_size=128 --reward_scale=0.05
  offrl collect runs/ROUND --seed_index=i --epsilon=0.1 --seed=ROUNDi \\
      --num_transitions=6000 --extend=LAST.npz --output=ROUND-i.npz

medium is seed 1 of round 3 and expert seed 1 of round 6, their `critic/` weights without the axis
of seeds. BUILD_NOTES.md has the numbers of the others and what all of them return.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offrl_jax import environments
from offrl_jax.data.generate.record import Act, record, record_episode, uniform, with_random_share
from offrl_jax.data.recording import Recording

LAYERS = tuple(f"critic/params/{name}" for name in ("Dense_0", "Dense_1", "head"))


class Task(NamedTuple):
    """An environment as registered, and how much of it is recorded by default."""

    env_id: str
    num_transitions: int
    packages: tuple[str, ...]  # on whose versions the numbers depend


TASKS = {
    "cartpole": Task("CartPole-v1", 20_000, ("gymnasium",)),
    "lunarlander": Task("LunarLander-v3", 100_000, ("gymnasium", "box2d")),
    "acrobot": Task("Acrobot-v1", 50_000, ("gymnasium",)),
}
# Policies that take turns, one an episode, and the share ε of random actions among theirs.
BEHAVIORS: dict[str, dict[str, float]] = {
    "random": {"random": 1.0},
    "medium": {"medium": 0.1},
    "expert": {"expert": 0.02},
    "mixed": {"random": 1.0, "medium": 0.1, "expert": 0.02},
    "narrow": {"medium": 0.02},
}


def play(name: str, behavior: str, num_transitions: int, *, seed: int = 0) -> Recording:
    """Records a task of `TASKS` with one of `BEHAVIORS`; the same arguments give the same numbers.

    The last episode is cut where `num_transitions` are reached.

    Raises:
      SimulatorMissing: if a package is missing.
    """
    env = environments.make(TASKS[name].env_id, {"disable_env_checker": True})
    actors = _actors(env, name, behavior, seed)
    arrays = record(env, actors, num_transitions, seed=seed)
    fields = {
        "env_id": TASKS[name].env_id,
        "env_kwargs": "{}",
        "num_actions": int(env.action_space.n),
    }
    env.close()
    return Recording(arrays, fields)


def mean_return(name: str, behavior: str, num_episodes: int = 100) -> float:
    """Mean return of a behaviour, episode j from the environment's seed j."""
    env = environments.make(TASKS[name].env_id, {"disable_env_checker": True})
    rows = {"reward": np.zeros(env.spec.max_episode_steps)}
    total = 0.0
    for seed, act in zip(range(num_episodes), _actors(env, name, behavior, 0), strict=False):
        length = record_episode(env, act, rows, 0, seed=seed)
        total += rows["reward"][:length].sum()
    env.close()
    return total / num_episodes


def _actors(env, name: str, behavior: str, seed: int) -> Iterator[Act]:
    rng = np.random.default_rng(seed)
    random = uniform(env, rng)
    return itertools.cycle(
        random
        if policy == "random"
        else with_random_share(trained(name, policy), epsilon, random, rng)
        for policy, epsilon in BEHAVIORS[behavior].items()
    )


def trained(name: str, policy: str) -> Act:
    """The greedy policy of a task's shipped critic: argmax_a Q(s, a)."""
    with np.load(Path(__file__).parent / "policies" / f"{name}-{policy}.npz") as file:
        layers = [(file[f"{layer}/kernel"], file[f"{layer}/bias"]) for layer in LAYERS]

    def act(observation: np.ndarray) -> int:
        *hidden, (kernel, bias) = layers
        for weight, offset in hidden:
            observation = np.maximum(observation @ weight + offset, 0)
        return int(np.argmax(observation @ kernel + bias))

    return act
