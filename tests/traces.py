"""Counts how often the updates of an algorithm are traced."""

import functools

from offrl_jax.algorithms.base import Algorithm, phases_of

TRACES = []  # every update as often as it was traced


@functools.cache
def counting(update):
    def counted(*args):
        TRACES.append(update)
        return update(*args)

    return counted


def with_counted_traces(algorithm: Algorithm) -> Algorithm:
    def phases(config):
        return [
            phase._replace(updates=tuple(map(counting, phase.updates)))
            for phase in phases_of(algorithm, config)
        ]

    return algorithm._replace(phases=phases)
