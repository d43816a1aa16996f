"""Rolls out the policies of trained runs and prints their scores.

  offrl evaluate runs/cql --num_episodes=100
  offrl evaluate runs/cql runs/bc
  offrl evaluate runs/arrays --env_id=Hopper-v5

Evaluates every seed of a run with the weights of its last checkpoint. A run whose data name no
environment needs --env_id.
"""

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_networks, own_algorithm
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section

with section("evaluation"):
    flags.DEFINE_integer("num_episodes", 10, "episodes per seed", 1)
    define("env_id", "algorithm", "networks")


def main(*runs: str) -> None:
    if not runs:
        raise orl.InputError("no run is given; name the directories of one or more")
    for run in runs:
        evaluation = orl.evaluate(
            run,
            num_episodes=FLAGS.num_episodes,
            environment=FLAGS.env_id,
            algorithm=own_algorithm(FLAGS.algorithm, run),
            networks=find_networks(FLAGS.networks),
        )
        print(f"{run}\n\n{evaluation}\n")


if __name__ == "__main__":
    launch(main)
