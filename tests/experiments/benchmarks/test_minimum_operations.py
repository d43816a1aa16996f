"""The hand count, where settings change it; the defaults are in the contract."""

import pytest

from experiments.benchmarks.minimum_operations import MINIMUM
from offrl_jax import ALGORITHMS, InputError
from tests.compiled import DATASETS, LARGEST, SMALLEST, ratio_to_minimum, sized_config
from tests.few import CORE


def test_every_core_algorithm_has_one():
    assert set(CORE) <= set(MINIMUM) <= set(ALGORITHMS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bc", {"policy": "deterministic"}),
        ("sac", {"backup": "max_min", "num_backup_actions": 5, "num_critics": 3}),
        ("sac", {"td_weighting": "discor"}),
        ("qt_opt", {"num_samples": 7, "num_elites": 2, "num_rounds": 3}),
        ("cql", {"variant": "v2", "num_sampled_actions": 4}),
        ("td3_bc", {"policy_delay": 3}),
        ("bcq", {"num_behavior_steps": 1, "num_target_actions": 3}),
        ("bear", {"num_behavior_steps": 1, "behavior": "gaussian", "num_mmd_samples": 5}),
        ("brac", {"variant": "p", "divergence": "reverse_kl"}),
        ("brac", {"penalty_position": "state", "divergence": "mmd"}),
        ("awac", {"policy": "tanh_gaussian", "baseline": "mode", "num_target_actions": 3}),
        ("abm", {"prior_weight": "uniform", "policy": "tanh_mean"}),
        ("abm", {"prior_advantage": "critic", "baseline": "mode"}),
        ("dqn", {"num_quantiles": 5, "double": False}),
    ],
    ids=str,
)
def test_settings_are_counted(name, settings):
    algorithm = ALGORITHMS[name]
    config = sized_config(algorithm, **settings)
    assert SMALLEST <= ratio_to_minimum(algorithm, config) <= LARGEST


@pytest.mark.parametrize(
    ("name", "settings"),
    [("brac", {"divergence": "wasserstein"})],
)
def test_what_was_not_counted_is_refused(name, settings):
    config = sized_config(ALGORITHMS[name], **settings)
    with pytest.raises(InputError, match=f"{next(iter(settings))}.* not been counted"):
        MINIMUM[name](config, DATASETS[False].spec)
