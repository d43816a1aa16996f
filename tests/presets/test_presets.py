"""Every preset can be run, and one that does not exist is refused."""

import importlib

import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.algorithms.base import phases_of
from offrl_jax.config import validate
from offrl_jax.presets.cql import PUBLISHED
from offrl_jax.presets.preset import DOMAINS, find_preset
from offrl_jax.runs.schedule import schedule
from offrl_jax.types import InputError
from tests.few import CORE

PACKAGE = "offrl_jax.presets."


@pytest.mark.parametrize("name", CORE)
def test_every_preset_and_recipe_is_one_that_can_run(name):
    module = importlib.import_module(PACKAGE + name)
    assert set(module.PRESETS) <= set(DOMAINS)
    for domain in DOMAINS:
        for recipes in [(), *((recipe,) for recipe in getattr(module, "RECIPES", {}))]:
            preset = find_preset(name, domain, recipes)
            config = ALGORITHMS[name].Config(**preset.config)
            validate(config)
            assert schedule(phases_of(ALGORITHMS[name], config), preset.num_steps, 5)


def test_recipes_go_on_top_of_the_domains_preset_in_order():
    plain = find_preset("brac", "pointmaze")
    quick = find_preset("brac", "pointmaze", ["kl_control", "quick"])
    assert quick.reward_scale == plain.reward_scale
    assert quick.num_steps == 20_000 != plain.num_steps
    assert quick.config["divergence_weight"] == 20.0
    assert find_preset("brac", "gym", ["kl_control"]).config["num_warmup_steps"] == 0


def test_quick_recipes_bring_their_own_optimizer_and_rewards():
    assert find_preset("awr", "gym").config["optimizer"] == "sgd"
    assert find_preset("awr", "gym", ["quick"]).config["optimizer"] == "adam"
    ant = find_preset("iql", "antmaze", ["quick_antmaze"])
    assert (ant.reward_scale, ant.reward_bias) == (100.0, 0.0)
    assert find_preset("iql", "antmaze").reward_bias == -1.0
    assert ant.config["expectile"] == 0.7 != find_preset("iql", "antmaze").config["expectile"]


def test_presets_and_recipes_keep_what_defines_a_methods_networks():
    """Critics of ReBRAC have a LayerNorm; DisCor's errors one layer more than the critics; V of IQL
    the critics' sizes."""
    cases = [
        (name, find_preset(name, domain, recipes).config)
        for name in ("rebrac", "sac", "iql")
        for domain in DOMAINS
        for recipes in [(), *((r,) for r in importlib.import_module(PACKAGE + name).RECIPES)]
    ]
    for name, settings in cases:
        config = ALGORITHMS[name].Config(**settings)
        critic = config.critic_network
        if name == "rebrac":
            assert critic.layer_norm
        elif name == "sac":
            sizes = critic.hidden_sizes
            assert config.error_network.hidden_sizes == (*sizes, sizes[-1])
        else:
            assert config.value_network == critic


def test_what_public_code_runs_is_the_same_on_every_domain():
    """A published recipe leaves nothing of the domain's preset behind."""
    for recipe, preset in PUBLISHED.items():
        found = [find_preset("cql", domain, [recipe]) for domain in DOMAINS]
        assert all(other == found[0] for other in found), recipe
        assert found[0].config == preset.config


def test_the_public_settings_of_cql_differ_where_their_code_does():
    def config(recipe):
        return ALGORITHMS["cql"].Config(**find_preset("cql", "gym", [recipe]).config)

    authors, jaxcql, corl = map(config, ("authors_antmaze", "jaxcql_antmaze", "corl_antmaze"))
    assert (authors.lagrange, jaxcql.lagrange, corl.lagrange) == ("authors", "jaxcql", "jaxcql")
    assert (authors.lagrange_threshold, jaxcql.lagrange_threshold) == (5.0, 0.2)
    assert (authors.backup, corl.backup) == ("deterministic", "max_min")
    assert len(corl.critic_network.hidden_sizes) == 5 and corl.min_difference == -200.0
    assert config("cal_ql").calibrated and not corl.calibrated


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"brac has no recipe 'kl'; it has .*kl_control"):
        find_preset("brac", "gym", ["kl"])
    with pytest.raises(InputError, match="it has no recipe at all"):
        find_preset("mine", "gym", ["kl_control"])
