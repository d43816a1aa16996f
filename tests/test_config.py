import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from offrl_jax.config import config, grid, setting, stack, validate
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import network_setting
from offrl_jax.types import InputError


@config
class Example:
    rate: float = setting(0.1, "a rate", low=0, high=1)
    layers: tuple[int, ...] = setting((8, 8), "layers", low=1)
    mode: str = setting("a", "a mode", choices=("a", "b"))
    switch: bool = setting(True, "a switch")
    count: int = setting(2, "a count", low=1)
    network: nn.Module = network_setting(MLP((8,)), "a network")


def test_float_fields_are_leaves_and_the_rest_static():
    assert jax.tree.leaves(Example(rate=0.3)) == [0.3]
    assert jax.tree.structure(Example()) != jax.tree.structure(Example(count=3))


def test_another_float_does_not_retrace_and_another_static_does():
    traces = []

    @jax.jit
    def scaled(config):
        traces.append(config)
        return config.rate * config.count

    scaled(Example(rate=0.1)), scaled(Example(rate=0.2))
    assert len(traces) == 1
    scaled(Example(rate=0.2, network=MLP((8,))))
    assert len(traces) == 1
    scaled(Example(rate=0.2, count=3))
    assert len(traces) == 2
    scaled(Example(rate=0.2, network=MLP((9,))))
    assert len(traces) == 3


def test_a_python_branch_on_a_float_fails_loudly():
    @jax.jit
    def branch(config):
        return 1.0 if config.rate > 0 else 0.0

    with pytest.raises(jax.errors.TracerBoolConversionError):
        branch(Example())


def test_configs_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().rate = 0.2


def test_grid_and_stack():
    configs = grid(Example(count=5), rate=[0.1, 0.2])
    stacked = stack(configs)
    assert stacked.count == 5
    assert stacked.rate.dtype == jnp.float32
    assert stacked.rate.tolist() == pytest.approx([0.1, 0.2])


def test_configs_of_different_programs_do_not_stack():
    with pytest.raises(InputError, match="static"):
        stack([Example(), Example(count=3)])
    with pytest.raises(InputError, match="no configs"):
        stack([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 1.5}, r"rate=1.5 is outside \[0, 1\]"),
        ({"rate": float("nan")}, "rate=nan is not finite"),
        ({"rate": float("inf")}, "rate=inf is not finite"),
        ({"layers": ()}, "layers is empty"),
        ({"rate": "fast"}, "is a str; give a float"),
        ({"mode": "c"}, "mode='c' is not one of a, b"),
        ({"layers": (8, 0)}, "layers"),
        ({"layers": 8}, "is a int; give a tuple"),
        ({"layers": (8, 2.5)}, "other things than integers"),
        ({"count": 2.5}, "count=2.5 is a float; give a int"),
        ({"count": True}, "count=True is a bool"),
        ({"network": (8, 8)}, "network is a tuple; give a Linen module"),
        ({"network": MLP((8, 0))}, r"network: hidden_sizes=\(8, 0\); give a tuple of positive"),
    ],
)
def test_validate_says_what_is_wrong(change, message):
    with pytest.raises(InputError, match=message):
        validate(dataclasses.replace(Example(), **change))


def test_validate_accepts_an_int_where_a_float_is_meant():
    validate(Example(rate=1))
