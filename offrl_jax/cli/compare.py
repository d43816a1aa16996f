"""Compares algorithms: interquartile means, intervals and probabilities of improvement.

  offrl compare runs/cql runs/bc
  offrl compare runs/cql-* runs/bc-*
  offrl compare runs/sweep/runs/*

Runs that differ only in their seeds are pooled; intervals resample the seeds within each task.
"""

import offrl_jax as orl
from offrl_jax.cli.command_line import launch


def main(*runs: str) -> None:
    if not runs:
        raise orl.InputError("no run is given; name the directories of two or more")
    print(orl.compare(runs))


if __name__ == "__main__":
    launch(main)
