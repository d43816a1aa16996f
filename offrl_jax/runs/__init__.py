"""Runs: training, run directories, checkpoints, policies."""
