"""Configs: frozen dataclasses whose float fields are pytree leaves and all others static.

A float field may therefore be traced, vmapped and swept without a recompile, while a change
of a bool, int, str or tuple field selects another program.
"""

import dataclasses
import itertools
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.types import InputError

C = TypeVar("C")


def setting(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[str] = (),
    check: Callable[[str, Any], None] | None = None,
) -> Any:
    """A config field with its text in `--help` and the values that `validate` accepts: a closed
    range, choices, or those for which `check(name, value)` does not raise InputError."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "check": check}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def config(cls: type[C]) -> type[C]:
    """Class decorator: a frozen, keyword-only dataclass registered as a pytree."""
    # Tracers pass through the constructor, so `validate` checks types at the boundary instead.
    cls = typing.no_type_check(dataclasses.dataclass(frozen=True, kw_only=True)(cls))
    leaves = [f.name for f in dataclasses.fields(cls) if f.type is float]
    static = [f.name for f in dataclasses.fields(cls) if f.type is not float]
    return jax.tree_util.register_dataclass(cls, data_fields=leaves, meta_fields=static)


def validate(config: Any) -> None:
    """Checks every field's type, range and choices; a stacked config's every setting.

    Raises:
      InputError: naming the field, its value and what is allowed.
    """
    for field in dataclasses.fields(config):
        value, meta = getattr(config, field.name), field.metadata
        if isinstance(value, jax.core.Tracer):
            continue
        if meta["check"] is not None:
            meta["check"](field.name, value)
            continue
        if field.type is float and isinstance(value, jax.Array):
            numbers = np.asarray(value).ravel().tolist()
        else:
            _check_type(field, value)
            numbers = value if isinstance(value, tuple) else (value,)
        if meta["choices"] and value not in meta["choices"]:
            raise InputError(f"{field.name}={value!r} is not one of {', '.join(meta['choices'])}")
        if not numbers:
            raise InputError(f"{field.name} is empty; give at least one number")
        for number in numbers:
            if isinstance(number, str | bool):
                continue
            if not math.isfinite(number):
                raise InputError(f"{field.name}={number!r} is not finite; give a number")
            if not meta["low"] <= number <= meta["high"]:
                raise InputError(
                    f"{field.name}={value!r} is outside [{meta['low']:g}, {meta['high']:g}]"
                )


def _check_type(field: dataclasses.Field, value: Any) -> None:
    kind = typing.get_origin(field.type) or field.type
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(
            f"{field.name}={value!r} is a {type(value).__name__}; give a {kind.__name__}"
        )
    if kind is tuple and any(type(item) is not int for item in value):
        raise InputError(f"{field.name}={value!r} holds other things than integers")


def grid(config: C, **axes: Sequence[float]) -> list[C]:
    """Every combination of the given float values, the last axis fastest."""
    return [
        dataclasses.replace(config, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


def stack(configs: Sequence[C]) -> C:
    """One config whose float leaves carry a leading axis H, to be vmapped over.

    Raises:
      InputError: if the configs differ in a static field, which no single program can hold.
    """
    if not configs:
        raise InputError("there are no configs to stack; give at least one")
    structures = {jax.tree.structure(c) for c in configs}
    if len(structures) != 1:
        raise InputError(
            "only float settings can be stacked, but these configs differ in a static one: "
            f"{' / '.join(map(str, structures))}; run them separately"
        )
    return jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *configs)
