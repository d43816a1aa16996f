"""Offline reinforcement learning in JAX: pure functions on pytrees, one program for a study."""

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time a module is imported on first use, so that importing is fast
    from offrl_jax import data, devices, safety, tabular
    from offrl_jax.algorithms import ALGORITHMS
    from offrl_jax.api.compare import compare
    from offrl_jax.api.export import export
    from offrl_jax.api.run import Run, evaluate, load_run, train
    from offrl_jax.api.select import select
    from offrl_jax.api.sweep import Sweep, sweep
    from offrl_jax.config import grid, stack
    from offrl_jax.data import dataset_from_arrays, load_dataset, map_rewards, with_rewards
    from offrl_jax.learner import init, learn
    from offrl_jax.networks.modules import MLP, Encoded
    from offrl_jax.runs.policy import load_policy
    from offrl_jax.types import InputError, Spec, Transition

__all__ = [
    "ALGORITHMS",
    "MLP",
    "Encoded",
    "InputError",
    "Run",
    "Spec",
    "Sweep",
    "Transition",
    "compare",
    "data",
    "dataset_from_arrays",
    "devices",
    "evaluate",
    "export",
    "grid",
    "init",
    "learn",
    "load_dataset",
    "load_policy",
    "load_run",
    "map_rewards",
    "safety",
    "select",
    "stack",
    "sweep",
    "tabular",
    "train",
    "with_rewards",
]
_MODULES = ("data", "devices", "safety", "tabular")
_NAMES = {  # module: its public names
    "algorithms": ("ALGORITHMS",),
    "api.compare": ("compare",),
    "api.export": ("export",),
    "api.run": ("Run", "evaluate", "load_run", "train"),
    "api.select": ("select",),
    "api.sweep": ("Sweep", "sweep"),
    "config": ("grid", "stack"),
    "data": ("dataset_from_arrays", "load_dataset", "map_rewards", "with_rewards"),
    "learner": ("init", "learn"),
    "networks.modules": ("MLP", "Encoded"),
    "runs.policy": ("load_policy",),
    "types": ("InputError", "Spec", "Transition"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        near = difflib.get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
