"""What a config may hold as a network, and what is refused in a sentence."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.config import validate
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.networks.values import build, known_networks, networks_of
from offrl_jax.testing import check_network, random_dataset
from offrl_jax.types import InputError

iql = ALGORITHMS["iql"]


class Residual(nn.Module):
    width: int = 16
    kernel_init: Any = nn.initializers.orthogonal()

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, kernel_init=self.kernel_init)(x)
        return x + nn.relu(nn.Dense(self.width)(x))


class Pair(nn.Module):
    """Of (s, a) alone, with units that a key drops out."""

    networks: tuple[nn.Module, ...] = (MLP((4,)),)

    @nn.compact
    def __call__(self, observation, action, key=None):
        return self.networks[0](observation, action, key)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x)


class Doubling(nn.Module):
    """Makes two rows of each."""

    @nn.compact
    def __call__(self, x):
        return jnp.concatenate([nn.Dense(3)(x)] * 2)


class Mixing(nn.Module):
    """What it makes of a row depends on the others."""

    @nn.compact
    def __call__(self, x):
        return x - jnp.mean(x, axis=0, keepdims=True)


class Own(MLP):
    """An MLP whose types no test plugin checks."""


class NNX(nnx.Module):
    def __init__(self):
        self.width = 3


class Training(nn.Module):
    def __call__(self, x, train):
        return x


class Empty(nn.Module):
    pass


class ByKeyword(nn.Module):
    """Takes the action by its keyword alone."""

    @nn.compact
    def __call__(self, observation, *, action=None):
        return nn.Dense(3)(observation if action is None else action)


class Tupled(nn.Module):
    def __call__(self, x):
        return x, x


def NotEncoded():
    """An `Encoded` whose types no test plugin checks."""
    network = Encoded(MLP(), MLP())
    object.__setattr__(network, "network", 4)
    return network


Namesake = type("MLP", (nn.Module,), {"__call__": lambda self, x: x})

REFUSED = {  # what is wrong: a network, the sentence
    "list": (Own([8, 8]), r"critic_network: Own.hidden_sizes holds \[8, 8\]; give a tuple"),
    "list inside": (
        Encoded(Residual(), Own([8])),
        r"Encoded.network: Own.hidden_sizes holds \[8\]; give a t",
    ),
    "lambda": (
        Residual(kernel_init=lambda *args: None),
        "Residual.kernel_init holds <function .*; give its name as a string",
    ),
    "initialiser": (Residual(kernel_init=nn.initializers.ones), "Residual.kernel_init holds <func"),
    "array": (Residual(width=jnp.ones(3)), "Residual.width holds .*; give a Python number"),
    "NaN": (Residual(width=float("nan")), "Residual.width holds nan; give a finite number"),
    "type": (Residual(width=jnp.float32), "Residual.width holds .*; give a Python number, or the"),
    "inside a tuple": (Residual(width=(1, [2])), r"Residual.width holds \[2\]; give a tuple"),
    "name": (Residual(name="mine"), "Residual has a name or is bound to parameters"),
    "encoded twice": (
        Encoded(Residual(), Encoded(Residual(), MLP())),
        "Encoded holds another Encoded as its network",
    ),
    "no module inside": (NotEncoded(), "network=4 of Encoded; give a Linen module"),
    "more inputs": (Training(), "__call__ of Training needs train; give one with an input"),
    "no input": (Empty(), "__call__ of Empty takes no input"),
    "NNX": (NNX(), "critic_network is an NNX module, NNX; give a Linen module"),
    "class": (Residual, r"critic_network is the class Residual; give an instance, Residual\("),
    "number": (8, "critic_network is a int; give a Linen module"),
    "no size": (Own(()), r"critic_network: hidden_sizes=\(\); give a tuple of positive integers"),
    "size 0": (Own((8, 0)), r"hidden_sizes=\(8, 0\)"),
    "float size": (Own((8.0,)), r"hidden_sizes=\(8.0,\)"),
    "activation": (Own(activation="rely"), "activation='rely' is not one of relu, gelu"),
    "initializer": (Own(initializer="ones"), "initializer='ones' is not one of torch"),
    "layer_norm": (Own(layer_norm=1), "layer_norm=1; give True or False"),
    "dropout": (Own(dropout=1.0), "dropout=1.0; give a number from 0 to 0.9"),
    "dropped critic": (
        MLP(dropout=0.1),
        "critic_network uses dropout in MLP, but the algorithm passes this network no dropout",
    ),
    "dropped inside": (Pair(), "critic_network uses dropout in Pair"),
    "twice": (Encoded(*[Residual(8)] * 2), "critic_network holds the same module in two places"),
    "namesake": (Namesake(), "your class MLP has the name of one of this library's classes"),
}


@pytest.mark.parametrize(("network", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_fixed_value_is_refused(network, sentence):
    with pytest.raises(InputError, match=sentence):
        validate(iql.Config(critic_network=network))


def test_a_function_that_is_the_default_is_a_fixed_value():
    validate(iql.Config(critic_network=Residual(width=8)))
    assert Residual(8) == Residual(8) and hash(Residual(8)) == hash(Residual(8))


def test_units_are_dropped_where_updates_give_a_key():
    validate(iql.Config(actor_network=MLP(dropout=0.1), value_network=MLP(dropout=0.5)))
    validate(iql.Config(critic_network=Encoded(MLP((4,)), MLP((4,)))))
    with pytest.raises(InputError, match="uses dropout in MLP"):
        validate(iql.Config(critic_network=Encoded(MLP((4,), dropout=0.1), MLP((4,)))))


@pytest.mark.parametrize(
    "network",
    [
        MLP((8,)),
        MLP((8, 8), activation="gelu", layer_norm=True, initializer="glorot", dropout=0.1),
        MLP((8,), activation="tanh", initializer="orthogonal"),
        Residual(8),
        Encoded(Residual(8), MLP((8,))),
        Encoded(MLP((8,)), Pair()),
        Pair((MLP((4,)),)),
        ByKeyword(),
    ],
    ids=str,
)
def test_networks_keep_the_contract(network):
    check_network(network)


@pytest.mark.parametrize(
    ("network", "error", "sentence"),
    [
        (Own([8]), InputError, "hidden_sizes holds .*; give a tuple"),
        (
            Normalised(),
            InputError,
            "Normalised has the variables batch_stats beside its parameters",
        ),
        (Doubling(), InputError, "Doubling returns shape"),
        (Tupled(), InputError, "Tupled returns a tuple; it must return an array"),
        (Mixing(), AssertionError, "outputs of Mixing for several states"),
    ],
    ids=["list", "batch norm", "rows", "tuple", "mixing"],
)
def test_networks_that_do_not_are_told(network, error, sentence):
    with pytest.raises(error, match=sentence):
        check_network(network)


def test_a_network_of_actions_is_none_of_a_state():
    config, spec = iql.Config(actor_network=Pair()), random_dataset().spec
    with pytest.raises(InputError, match="Pair needs an action, but a network of states"):
        iql.init(config, spec, jax.random.key(0))


def test_the_classes_of_a_config_are_found_wherever_they_are():
    config = iql.Config(actor_network=Encoded(Residual(), Pair((MLP(),))))
    assert networks_of(config) == {
        "MLP": MLP,
        "Encoded": Encoded,
        "Residual": Residual,
        "Pair": Pair,
    }
    again = type("Residual", (nn.Module,), {"__call__": lambda self, x: x})
    with pytest.raises(InputError, match="two network classes named Residual"):
        networks_of(dataclasses.replace(config, critic_network=again()))


def test_own_classes_are_given_by_name():
    assert known_networks({"Mine": Residual}) == {"MLP": MLP, "Encoded": Encoded, "Mine": Residual}
    assert set(known_networks(None)) == {"MLP", "Encoded"}
    for given, sentence in (
        ([Residual], "networks is a list; give classes by name"),
        ({"Mine": Residual()}, r"networks\[.Mine.\] is Residual"),
        ({"MLP": Residual}, "has the name of a library class; rename yours"),
        ({"Mine": nnx.Linear}, "give the class itself"),
    ):
        with pytest.raises(InputError, match=sentence):
            known_networks(given)


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("MPL", {}, "there is no network 'MPL'; did you mean MLP"),
        ("MLP", {"hiden_sizes": (4,)}, "MLP has no field 'hiden_sizes'; did you mean hidden_sizes"),
        ("MLP", {"parent": None}, "MLP has no field 'parent'"),
        ("Encoded", {"encoder": MLP()}, "Encoded cannot be made with the fields"),
    ],
)
def test_unknown_names_are_told(name, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        build(name, fields)
