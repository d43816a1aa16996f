"""Launches `offrl sweep` from a checkout: `python -m experiments.sweep --help`."""

from offrl_jax.cli.sweep import launch, main

if __name__ == "__main__":
    launch(main)
