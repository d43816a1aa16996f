import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.algorithms.base import Phase
from offrl_jax.config import config, setting, stack
from offrl_jax.data.summary import summary
from offrl_jax.evaluation.rollouts import Rollouts, summarize
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.directory import RowFile, check_run_dir
from offrl_jax.runs.policy import load_policy
from offrl_jax.runs.schedule import chunk_size, schedule
from offrl_jax.runs.train import train
from offrl_jax.types import InputError
from tests.arrays import random_dataset
from tests.toy import RuleConfig, rule, toy_dataset

BC = ALGORITHMS["bc"]
CONFIG = BC.Config(network=MLP((8,)), batch_size=8)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    reports = []
    result = train(
        BC,
        CONFIG,
        toy_dataset(),
        run_dir=tmp_path_factory.mktemp("runs") / "run",
        num_steps=4,
        num_seeds=3,
        seed=5,
        num_evaluations=2,
        num_evaluation_episodes=2,
        record={"note": "kept"},
        report=lambda step, numbers: reports.append((step, numbers)),
    )
    return result, reports


def test_the_run_directory_is_complete(run):
    result, _ = run
    run_dir = result.run_dir
    assert {p.name for p in run_dir.iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "evaluations.jsonl",
        "checkpoints",
        "policy",
        "run.lock",
        "DONE",
    }
    config = json.loads((run_dir / "config.json").read_text())
    assert config["algorithm"] == "bc" and config["config"]["network"]["hidden_sizes"] == [8]
    assert config["note"] == "kept" and config["seed"] == 5
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["dataset_fingerprint"] == toy_dataset().spec.fingerprint
    assert environment["dataset"] == summary(toy_dataset())
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["devices"]
    metrics = rows(run_dir / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [2, 4]
    assert all(len(row["actor/loss"]) == 3 for row in metrics)
    evaluations = rows(run_dir / "evaluations.jsonl")
    assert [row["step"] for row in evaluations] == [2, 4]
    assert len(evaluations[0]["score"]) == 3
    assert np.shape(evaluations[0]["episode_returns"]) == (3, 2)
    assert load_policy(run_dir)(np.zeros(2)).shape == (2,)


DIAGNOSTICS = {"action_saturation", "behavior_nll", "data_nll"}
CRITIC_DIAGNOSTICS = {"policy_gap", "random_gap", "ensemble_spread"}


def assert_diagnosed(result, expected, num_seeds):
    for row in [*rows(result.run_dir / "metrics.jsonl"), result.metrics]:
        found = {name.split("/")[1]: v for name, v in row.items() if name.startswith("diagnostics")}
        assert set(found) == expected
        assert all(np.shape(v) == (num_seeds,) and np.isfinite(v).all() for v in found.values())


def test_every_chunk_has_diagnostics(run):
    assert_diagnosed(run[0], DIAGNOSTICS, 3)


@pytest.fixture(scope="module")
def critic_run(tmp_path_factory):
    sizes = {"actor_network": MLP((8,)), "critic_network": MLP((8,))}
    algorithm = ALGORITHMS["sac"]
    return train(
        algorithm,
        algorithm.Config(batch_size=8, **sizes),
        toy_dataset(),
        run_dir=tmp_path_factory.mktemp("runs") / "run",
        num_steps=4,
        num_seeds=2,
        num_evaluations=2,
        num_evaluation_episodes=2,
    )


def test_every_chunk_of_a_critic_has_its_diagnostics_too(critic_run):
    assert_diagnosed(critic_run, DIAGNOSTICS | CRITIC_DIAGNOSTICS, 2)


def test_the_diagnostics_are_of_the_state_just_learnt(critic_run):
    first, last = (
        np.array(row["diagnostics/policy_gap"])
        for row in rows(critic_run.run_dir / "metrics.jsonl")
    )
    assert (first != last).all()


def test_a_seeds_diagnostics_do_not_depend_on_its_company(critic_run, tmp_path):
    alone = train(
        ALGORITHMS["sac"],
        ALGORITHMS["sac"].Config(batch_size=8, actor_network=MLP((8,)), critic_network=MLP((8,))),
        toy_dataset(),
        run_dir=tmp_path / "run",
        num_steps=4,
        seed=1,
        num_evaluations=2,
        num_evaluation_episodes=0,
    )
    for name in alone.metrics:
        np.testing.assert_allclose(alone.metrics[name][0], critic_run.metrics[name][1], rtol=1e-3)


def test_evaluations_hold_learned_and_actual_values(critic_run):
    rollouts, row = critic_run.rollouts, rows(critic_run.run_dir / "evaluations.jsonl")[-1]
    np.testing.assert_allclose(row["learned_value"], rollouts.learned_value.mean(1))
    np.testing.assert_allclose(row["actual_value"], rollouts.actual_value.mean(1))
    np.testing.assert_allclose(
        row["value_error"], np.subtract(row["learned_value"], row["actual_value"])
    )


def test_without_a_critic_evaluations_hold_no_learned_value(run):
    row = rows(run[0].run_dir / "evaluations.jsonl")[0]
    assert not {"learned_value", "value_error"} & set(row)


def test_a_seed_whose_value_diverged_is_null_and_hides_no_other(tmp_path):
    array = np.array([[1.0, 3.0], [2.0, 2.0]])
    learned = np.array([[np.nan, np.nan], [5.0, 7.0]])
    rollouts = Rollouts(array, array, array, array, learned_value=learned, actual_value=array)
    RowFile(tmp_path / "rows.jsonl").append(summarize(rollouts, toy_dataset().spec))
    (row,) = rows(tmp_path / "rows.jsonl")
    assert row["learned_value"] == [None, 6.0] and row["value_error"] == [None, 4.0]
    assert row["actual_value"] == [2.0, 2.0] and row["return"] == [2.0, 2.0]


def test_progress_reports_losses_and_scores(run):
    _, reports = run
    for name in ("actor/loss", "score"):
        assert [step for step, numbers in reports if name in numbers] == [2, 4]
    assert len(reports) == 4


def test_the_seconds_of_the_parts_make_up_the_whole(tmp_path):
    clock = time.perf_counter()
    result = train(
        BC,
        CONFIG,
        toy_dataset(),
        run_dir=tmp_path / "run",
        num_steps=2,
        num_evaluations=1,
        num_evaluation_episodes=2,
    )
    total = time.perf_counter() - clock
    parts = ["start", "training", "diagnostics", "evaluation", "saving", "rest"]
    assert list(result.seconds) == parts and min(result.seconds.values()) >= 0
    assert 0.9 * total < sum(result.seconds.values()) <= total
    assert 0 < result.evaluation_seconds < total
    assert json.loads((tmp_path / "run" / "DONE").read_text())["seconds"] == result.seconds


def test_the_last_checkpoint_is_the_last_state(run):
    result, _ = run
    step, state, _ = Checkpoints(result.run_dir / "checkpoints").restore(result.state)
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, state, result.state)


def test_three_seeds_equal_three_runs_of_one(tmp_path, run):
    together, _ = run
    for i in range(3):
        alone = train(
            BC,
            CONFIG,
            toy_dataset(),
            run_dir=tmp_path / str(i),
            num_steps=4,
            seed=5 + i,
            num_evaluations=2,
            num_evaluation_episodes=2,
        )
        np.testing.assert_allclose(
            together.rollouts.episode_return[i], alone.rollouts.episode_return[0], rtol=1e-4
        )
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(
                np.asarray(a)[i], np.asarray(b)[0], rtol=1e-4, atol=1e-6
            ),
            together.state,
            alone.state,
        )


def test_one_trace_serves_the_whole_run(tmp_path):
    traces = []

    def update(config, state, batch, key):
        traces.append("update")
        return rule.update(config, state, batch, key)

    def act(config, state, observation, key):
        traces.append("act")
        return rule.act(config, state, observation, key)

    counted = rule._replace(update=update, act=act)
    train(
        counted,
        RuleConfig(),
        toy_dataset(),
        run_dir=tmp_path / "run",
        num_steps=2500,
        num_seeds=2,
        num_evaluations=5,
        num_evaluation_episodes=2,
    )
    assert traces.count("update") == 1
    # Once for the rollouts, for the diagnostics, and to see which weights it reads.
    assert traces.count("act") == 3


def test_a_diverged_seed_is_named_and_the_rows_stay_json(tmp_path):
    def update(config, state, batch, key):
        state = state._replace(step=state.step + 1)
        return state, {"rule/loss": jnp.where(state.step > 2, jnp.nan, 0.0)}

    result = train(
        rule._replace(update=update),
        RuleConfig(),
        toy_dataset(),
        run_dir=tmp_path / "run",
        num_steps=4,
        num_evaluations=2,
        num_evaluation_episodes=0,
    )
    assert result.diverged == ["rule/loss is nan at step 4"]
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text and rows(tmp_path / "run" / "metrics.jsonl")[1]["rule/loss"] == [None]


def test_the_configs_discount_is_the_evaluations(tmp_path):
    @config
    class DiscountedConfig(RuleConfig):
        discount: float = setting(0.5, "γ")

    result = train(
        rule._replace(Config=DiscountedConfig),
        DiscountedConfig(),
        toy_dataset(),
        run_dir=tmp_path / "run",
        num_steps=1,
        num_evaluations=1,
        num_evaluation_episodes=3,
    )
    ratio = result.rollouts.discounted_return / result.rollouts.episode_return * [[2, 3, 4]]
    np.testing.assert_allclose(ratio, [[1.5, 1.75, 1.875]], rtol=1e-5)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["discount"] == 0.5


def test_without_an_environment_nothing_is_evaluated(tmp_path):
    result = train(
        BC,
        CONFIG,
        random_dataset(),
        run_dir=tmp_path / "run",
        num_steps=2,
        num_evaluations=1,
        num_evaluation_episodes=0,
    )
    assert result.rollouts is None
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()


@pytest.mark.parametrize(
    ("num_steps", "num_evaluations", "chunk"),
    [(10_000, 5, 1000), (8_000, 5, 800), (50, 5, 10), (10_015, 5, 2003), (7, 1, 7)],
)
def test_chunks_divide_the_run_equally(num_steps, num_evaluations, chunk):
    assert chunk_size(num_steps, num_evaluations) == chunk


def test_chunks_hold_whole_cycles_where_they_can():
    assert chunk_size(9_000, 3, 2) == 1000
    assert chunk_size(4_500, 3, 2) == 750 and chunk_size(4_500, 3) == 750
    assert chunk_size(2_997, 1, 2) == 999  # no even number divides it
    assert chunk_size(1_800, 1, 7) == 900


def test_earlier_phases_come_on_top_and_are_not_evaluated():
    phases = [Phase(("a",), 2500), Phase(("b", "c"))]
    lengths = schedule(phases, 4000, 2)
    assert lengths == [(625, False)] * 4 + [(1000, False), (1000, True)] * 2


def test_a_run_goes_through_its_phases(tmp_path):
    def pretrain(config, state, batch, key):
        state, _ = rule.update(config, state, batch, key)
        return state._replace(offset=state.offset + 0.1), {"pretraining/loss": state.offset}

    phased = rule._replace(phases=lambda config, update: (Phase((pretrain,), 3), Phase((update,))))
    options = {"num_evaluations": 2, "num_evaluation_episodes": 1}
    result = train(
        phased, RuleConfig(), toy_dataset(), run_dir=tmp_path / "run", num_steps=4, **options
    )
    assert result.state.step == 7
    np.testing.assert_allclose(result.state.offset, 0.3, rtol=1e-6)
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [3, 5, 7]
    assert "pretraining/loss" in metrics[0] and "pretraining/loss" not in metrics[1]
    assert [row["step"] for row in rows(tmp_path / "run" / "evaluations.jsonl")] == [5, 7]


def test_unequal_evaluations_are_refused_with_a_number_that_works():
    with pytest.raises(InputError, match="num_steps=10005 can"):
        chunk_size(10_007, 5)


def test_a_used_directory_is_left_alone(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="holds precious but no run"):
        check_run_dir(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        check_run_dir(tmp_path / "precious")
    with pytest.raises(InputError, match="not writable"):
        check_run_dir(tmp_path / "precious" / "below")


def test_bad_settings_write_nothing(tmp_path):
    run_dir = tmp_path / "run"
    options = {"run_dir": run_dir, "num_steps": 2, "num_evaluations": 1}
    with pytest.raises(InputError, match="batch_size=64 is more than the 60 transitions"):
        train(BC, BC.Config(batch_size=64), toy_dataset(), **options)
    with pytest.raises(InputError, match="learning_rate=-1"):
        train(BC, BC.Config(learning_rate=-1.0), toy_dataset(), **options)
    with pytest.raises(InputError, match="one setting"):
        train(BC, stack([CONFIG, CONFIG]), toy_dataset(), **options)
    with pytest.raises(InputError, match="seed=4294967295"):
        train(BC, CONFIG, toy_dataset(), seed=2**32 - 1, num_seeds=2, **options)
    with pytest.raises(InputError, match="11"):
        train(BC, CONFIG, toy_dataset(env_id="Hopper-v5"), **options)
    brac = ALGORITHMS["brac"]
    lone = brac.Config(divergence="mmd", mmd_unbiased=True, num_mmd_samples=1)
    with pytest.raises(InputError, match="num_mmd_samples=1"):
        train(brac, lone, toy_dataset(), **options)
    assert not run_dir.exists()


@pytest.mark.parametrize(
    "option",
    [
        {"evaluation_timeout": 0.0},
        {"evaluation_timeout": float("nan")},
        {"checkpoint_seconds": -1.0},
        {"divergence_limit": float("nan")},
        {"keep_last": 0},
        {"keep_every": 0},
        {"seed_batch": 2},
    ],
    ids=str,
)
def test_impossible_options_write_nothing(tmp_path, option):
    with pytest.raises(InputError, match=next(iter(option))):
        train(
            rule,
            RuleConfig(),
            toy_dataset(),
            run_dir=tmp_path / "run",
            num_steps=2,
            num_seeds=3,
            num_evaluations=1,
            **option,
        )
    assert not (tmp_path / "run").exists()
