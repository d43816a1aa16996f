"""Counts what is compiled."""

import jax

COMPILED = []  # a program each: the seconds that it took


def _note(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_note)
