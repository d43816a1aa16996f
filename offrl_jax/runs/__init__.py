"""Runs: training in chunks, run directories and checkpoints, and reading them again."""
