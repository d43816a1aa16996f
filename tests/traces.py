"""Counts how often the updates of an algorithm are traced, and what is compiled."""

import functools

import jax

from offrl_jax.algorithms.base import Algorithm, phases_of

TRACES = []  # every update as often as it was traced
COMPILED = []  # a program each: the seconds that it took


def _note(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_note)


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
