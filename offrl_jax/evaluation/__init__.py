"""Judging policies: rollouts in an environment and the statistics of their scores."""
