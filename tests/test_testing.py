"""`offrl_jax.testing`: what keeps the contract passes, and what breaks it is told in a sentence."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import pytest

from offrl_jax import InputError, testing
from offrl_jax.algorithms.base import Phase
from offrl_jax.cli.template import TemplateConfig, template
from offrl_jax.config import config
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.values import network_setting
from offrl_jax.testing import check_algorithm, check_dataset, random_dataset, small_config


def test_the_template_keeps_the_contract():
    check_algorithm(template)


def updated(change):
    """The template with its update's state and metrics changed."""

    def update(config, state, batch, key):
        return change(*template.update(config, state, batch, key))

    return template._replace(update=update)


def two_updates(change):
    return template._replace(phases=lambda config, update: (Phase((update, change)),))


def closures(config, update):
    return (Phase((update, lambda *args: update(*args))),)


@dataclasses.dataclass(frozen=True)
class Plain:
    batch_size: int = 4


def stepless(config, spec, key):
    return template.init(config, spec, key)._replace(step=0.0)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, observation):
        return nn.Dense(3)(observation)


@config
class NetworksConfig(TemplateConfig):
    network: nn.Module = network_setting(
        MLP((64,), layer_norm=True, dropout=0.5), "…", dropout=True
    )
    other_network: nn.Module = network_setting(Linear(), "…")


def test_small_configs_have_small_mlps_and_keep_all_else_of_networks():
    small = small_config(template._replace(Config=NetworksConfig), learning_rate=1.0)
    assert small.network == MLP((16, 16), layer_norm=True, dropout=0.5)
    assert small.other_network == Linear()
    assert (small.batch_size, small.learning_rate) == (8, 1.0)


def test_modules_other_than_ours_keep_the_contract():
    check_algorithm(template, TemplateConfig(network=Linear(), batch_size=8))


BROKEN = {
    "standing step": (
        *("check_training", updated(lambda s, m: (s._replace(step=jnp.int32(0)), m))),
        "state.step of template is 0 after 2 updates",
    ),
    "NaN": (
        *("check_training", updated(lambda s, m: (s, m | {"actor/loss": jnp.nan}))),
        "'actor/loss'.* is not finite",
    ),
    "another type": (
        *("check_update", updated(lambda s, m: (s._replace(step=s.step + 0.0), m))),
        r"state.step is int32\[\] but float32\[\] after an update",
    ),
    "another structure": (
        *("check_update", updated(lambda s, m: (s._replace(actor=s.actor.params), m))),
        "another structure",
    ),
    "a vector": (
        *("check_update", updated(lambda s, m: (s, m | {"actor/loss": jnp.zeros(3)}))),
        r"metric actor/loss of template has shape \(3,\)",
    ),
    "a metric's name": (
        *("check_update", updated(lambda s, m: (s, m | {"loss": m["actor/loss"]}))),
        "metric loss of template is not named part/what",
    ),
    "an update of a phase": (
        *("check_update", two_updates(lambda config, state, batch, key: (state, {}))),
        "reports no metric named part/loss",
    ),
    "no int32": ("check_update", template._replace(init=stepless), "is not an int32 scalar"),
    "large actions": (
        "check_act",
        template._replace(act=lambda *args: 10 + template.act(*args)),
        "actions of template leave",
    ),
    "flat actions": (
        "check_act",
        template._replace(act=lambda *args: template.act(*args)[0]),
        r"actions of template have shape \(3,\), not \(6, 3\)",
    ),
    "chunks": (
        "check_act",
        template._replace(chunk=lambda c, s, o, key: 5 * jnp.ones((*o.shape[:1], 2, 3))),
        r"chunks of template are not \(B, h, A\) in",
    ),
    "values": (
        "check_values",
        template._replace(value=lambda config, state, observation: observation),
        r"value of template has shape \(6, 5\)",
    ),
    "q_values": (
        "check_values",
        template._replace(q_values=lambda c, s, o, action: action.sum(-1)),
        r"q_values of template have shapes \(6,\) of one action",
    ),
}


@pytest.mark.parametrize(("check", "algorithm", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_contract_is_told(check, algorithm, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(testing, check)(algorithm, small_config(algorithm), random_dataset())


def test_updates_made_anew_in_each_call_are_told():
    algorithm, traces = testing.counting_traces(template._replace(phases=closures))
    with pytest.raises(AssertionError, match="traced again for another float setting"):
        testing.check_traces(algorithm, small_config(template), random_dataset(), traces)


def test_configs_that_are_none_are_told():
    with pytest.raises(AssertionError, match="is not a @config class"):
        check_algorithm(template._replace(Config=Plain))
    ignoring = template._replace(phases=lambda config, update: (Phase((template.update,)),))
    check_algorithm_of_phases = testing.counting_traces(ignoring._replace(update=print))[0]
    with pytest.raises(InputError, match="no phase of template takes its update"):
        testing.check_update(check_algorithm_of_phases, small_config(template), random_dataset())


@pytest.mark.parametrize("discrete", [False, True])
def test_datasets_are_checked(discrete):
    check_dataset(random_dataset(discrete=discrete))


@pytest.mark.parametrize(
    ("field", "change", "sentence"),
    [
        ("reward", lambda x: x[:-1], r"reward of arrays has shape \(239,\), not \(240,\)"),
        ("reward", lambda x: x.at[3].set(jnp.inf), "reward of arrays is not finite everywhere"),
        ("terminal", lambda x: x.astype(bool), "terminal of arrays is bool, not float32"),
        ("terminal", lambda x: x + 0.5, "terminal of arrays holds other numbers"),
        ("action", lambda x: 2 + x, "actions of arrays leave"),
    ],
)
def test_what_is_wrong_in_a_dataset_is_told(field, change, sentence):
    dataset = random_dataset()
    rows = dataset.transitions
    rows = rows._replace(**{field: change(getattr(rows, field))})
    with pytest.raises(AssertionError, match=sentence):
        check_dataset(dataclasses.replace(dataset, transitions=rows))


def test_episodes_out_of_order_are_told():
    dataset = random_dataset()
    with pytest.raises(AssertionError, match="not counted from 0 in order"):
        check_dataset(dataclasses.replace(dataset, episode=dataset.episode[::-1]))
