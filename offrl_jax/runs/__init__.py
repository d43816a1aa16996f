"""Runs: training chunk by chunk, its directory and checkpoints, and what reads them again."""
