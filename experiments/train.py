"""Launches `offrl train` from a checkout: `python -m experiments.train --help`."""

from offrl_jax.cli.train import launch, main

if __name__ == "__main__":
    launch(main)
