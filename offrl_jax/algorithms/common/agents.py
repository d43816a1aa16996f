"""States that hold another algorithm's as `agent`, beside what they add to it."""

from collections.abc import Callable
from typing import Any


def of_agent(function: Callable) -> Callable:
    """`function(config, state, …)` of a state's agent, such as its `act`."""

    def of_state(config: Any, state: Any, *inputs: Any) -> Any:
        return function(config, state.agent, *inputs)

    return of_state
