"""States that extend another algorithm's state, which they hold as `agent`."""

from collections.abc import Callable
from typing import Any


def of_agent(function: Callable) -> Callable:
    """Applies `function(config, state, …)`, such as `act`, to a state's `agent`."""

    def of_state(config: Any, state: Any, *inputs: Any) -> Any:
        return function(config, state.agent, *inputs)

    return of_state
