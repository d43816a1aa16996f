"""Networks in files: by name and fields, and made of classes that are given."""

import json
from typing import Any

import flax.linen as nn
import pytest

from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.networks.serialization import config_from_json, settings_to_json
from offrl_jax.networks.values import NETWORKS
from offrl_jax.presets.preset import Preset
from offrl_jax.types import InputError

Config = ALGORITHMS["iql"].Config


class Residual(nn.Module):
    width: int = 16
    kernel_init: Any = nn.initializers.orthogonal()
    inner: tuple[nn.Module, ...] = ()

    def __call__(self, x):
        return x


OWN = NETWORKS | {"Residual": Residual}
CONFIG = Config(
    actor_network=MLP((8, 8), layer_norm=True, dropout=0.1),
    value_network=Encoded(Residual(4), MLP((3,))),
    critic_network=Residual(2, inner=(MLP((1,)), Residual())),
    discount=0.5,
)


def test_a_config_is_read_as_it_was_written():
    fields = json.loads(json.dumps(settings_to_json(CONFIG)))
    assert config_from_json(Config, fields, OWN, "config.json") == CONFIG
    assert fields["actor_network"] == {
        "module": "MLP",
        "hidden_sizes": [8, 8],
        "activation": "relu",
        "layer_norm": True,
        "dropout": 0.1,
        "initializer": "torch",
    }
    assert fields["critic_network"]["width"] == 2 and "kernel_init" not in fields["critic_network"]


def test_presets_are_written_too():
    preset = Preset(config={"critic_network": MLP((8,)), "discount": 0.9})
    fields = json.loads(json.dumps(settings_to_json(preset)))
    assert fields["config"]["critic_network"]["hidden_sizes"] == [8]
    assert fields["config"]["discount"] == 0.9 and fields["num_steps"] == 1_000_000


def test_nothing_is_made_that_is_not_given():
    fields = settings_to_json(CONFIG)
    sentence = r'runs/a holds the network Residual, .*; give its class as `networks={"Residual": Re'
    with pytest.raises(InputError, match=sentence):
        config_from_json(Config, fields, NETWORKS, "runs/a")
    fields["value_network"] = {"module": "os:system", "command": "true"}
    with pytest.raises(InputError, match="holds the network os:system"):
        config_from_json(Config, fields, OWN, "runs/a")
    fields["value_network"] = {"hidden_sizes": [3]}
    with pytest.raises(InputError, match="that names no module; it is damaged"):
        config_from_json(Config, fields, OWN, "runs/a")
    fields["value_network"] = {"module": "MPL"}
    with pytest.raises(InputError, match=r"holds the network MPL, .*; did you mean MLP\?"):
        config_from_json(Config, fields, OWN, "runs/a")
    fields["value_network"] = {"module": "MLP", "width": 3}
    with pytest.raises(InputError, match="MLP has no field 'width'"):
        config_from_json(Config, fields, OWN, "runs/a")


def test_files_of_earlier_versions_are_refused():
    fields = settings_to_json(Config())
    del fields["discount"]
    assert config_from_json(Config, fields, NETWORKS, "runs/a") == Config()
    fields |= {"actor_hidden_sizes": [256, 256], "critic_hidden_sizes": [256, 256]}
    sentence = r"runs/a was written by another version.*\(actor_hidden_sizes, critic_hidden_sizes\)"
    with pytest.raises(InputError, match=sentence):
        config_from_json(Config, fields, NETWORKS, "runs/a")
