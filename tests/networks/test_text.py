"""Networks as text, which the command line takes and tables show."""

import flax.linen as nn
import pytest

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.networks.text import parse_network, with_modules, written
from offrl_jax.networks.values import NETWORKS
from offrl_jax.types import InputError

rebrac = ALGORITHMS["rebrac"]


class Layers(nn.Module):
    widths: tuple[int, ...] = ()
    mode: str = "plain"
    scale: float | None = None

    def __call__(self, x):
        return x


KNOWN = NETWORKS | {"Layers": Layers}
TEXTS = {
    "256x256": MLP((256, 256)),
    "8": MLP((8,)),
    "MLP(hidden_sizes=64x64,layer_norm=True)": MLP((64, 64), layer_norm=True),
    "MLP(hidden_sizes=(8,),dropout=0.1)": MLP((8,), dropout=0.1),
    "MLP(activation=gelu)": MLP(activation="gelu"),
    "Layers()": Layers(),
    "Layers(widths=(4,),mode=deep,scale=0.5)": Layers((4,), "deep", 0.5),
    "Encoded(encoder=Layers(),network=MLP(layer_norm=True))": Encoded(
        Layers(), MLP(layer_norm=True)
    ),
    "Encoded(encoder=Layers(),network=MLP(hidden_sizes=(4,)))": Encoded(Layers(), MLP((4,))),
    "Layers(mode='true 8x8')": Layers(mode="true 8x8"),
    "Layers(mode='true')": Layers(mode="true"),
    "Layers(mode='1')": Layers(mode="1"),
}


@pytest.mark.parametrize(("text", "network"), TEXTS.items())
def test_what_is_written_is_read(text, network):
    assert written(network) == text
    found = parse_network(text, KNOWN)
    assert (MLP(found) if isinstance(found, tuple) else found) == network


def test_spaces_and_small_letters_are_read():
    text = " MLP( hidden_sizes = (64, 64), layer_norm = true, activation = 'gelu' ) "
    assert parse_network(text) == MLP((64, 64), layer_norm=True, activation="gelu")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("256,256", "'256,256' is not a network; give hidden sizes such as 256x256"),
        ("8y8", "'8y8' is not a network"),
        ("MLP", "'MLP' is not a network"),
        ("MLP(64)", "is not a network"),
        ("MLP(hidden_sizes=8x8,hidden_sizes=4x4)", "is not a network"),
        ("MLP(hidden_sizes=", "is not a network"),
        ("__import__('os')", "is not a network"),
        ("MLP(hidden_sizes=open(file=x))", "there is no network 'open'"),
        ("MPL(layer_norm=true)", "there is no network 'MPL'; did you mean MLP"),
        ("MLP(layernorm=true)", "MLP has no field 'layernorm'; did you mean layer_norm"),
    ],
)
def test_what_cannot_be_read_is_told(text, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        parse_network(text)


def test_sizes_change_those_of_the_default():
    values = {"actor_network": (8,), "critic_network": "8x8", "batch_size": 4}
    found = with_modules(rebrac.Config, values, {})
    assert found == {
        "actor_network": MLP((8,)),
        "critic_network": MLP((8, 8), layer_norm=True),
        "batch_size": 4,
    }
    found = with_modules(rebrac.Config, values, {"actor_network": MLP(dropout=0.1)})
    assert found["actor_network"] == MLP((8,), dropout=0.1)
    found = with_modules(rebrac.Config, values, {"actor_network": Layers()})
    assert found["actor_network"] == MLP((8,))
    own = {"critic_network": Layers()}
    assert with_modules(rebrac.Config, own, {}) == own
