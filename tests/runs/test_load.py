"""Policies read back from the checkpoints of runs."""

import json
import shutil

import jax
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.networks.modules import MLP
from offrl_jax.runs import load
from offrl_jax.runs.train import train
from offrl_jax.types import InputError
from tests.toy import toy_dataset

TD3_BC = ALGORITHMS["td3_bc"]
CONFIG = TD3_BC.Config(actor_network=MLP((8,)), critic_network=MLP((8,)), batch_size=8)


@pytest.fixture(scope="module")
def dataset():
    return data.normalize_observations(data.transform_rewards(toy_dataset(), scale=0.1, bias=1.0))


@pytest.fixture(scope="module")
def result(dataset, tmp_path_factory):
    return train(
        TD3_BC,
        CONFIG,
        dataset,
        run_dir=tmp_path_factory.mktemp("trained") / "run",
        num_steps=20,
        num_seeds=2,
        seed=5,
        num_evaluations=2,
        num_evaluation_episodes=3,
    )


def test_raw_data_as_the_run_learnt_from_them(dataset, result):
    (last,) = load.load(result.run_dir)
    prepared = last.as_learnt(toy_dataset())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        (prepared.transitions, prepared.preprocessing),
        (dataset.transitions, dataset.preprocessing),
    )
    with pytest.raises(InputError, match="toy is preprocessed already"):
        last.as_learnt(dataset)
    with pytest.raises(InputError, match="has other observations or actions than toy"):
        last.as_learnt(toy_dataset(discrete=True))


def test_a_policy_does_and_is_worth_what_it_was_in_the_run(dataset, result):
    (last,) = load.load(result.run_dir)
    assert (last.step, last.seeds, last.config) == (20, (5, 6), CONFIG)
    assert last.discount == CONFIG.discount
    raw = toy_dataset().transitions
    normalized = dataset.transitions
    q_values = last.q_values(jax.tree.map(np.asarray, raw))
    for i in range(2):
        state = jax.tree.map(lambda x, i=i: x[i], result.state)

        def act(observation, state=state):
            return TD3_BC.act(CONFIG, state, observation, None)

        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(
            last.actions(raw.observation)[i], act(normalized.observation), **close
        )
        np.testing.assert_allclose(
            last.values(raw.observation)[i],
            TD3_BC.value(CONFIG, state, normalized.observation),
            **close,
        )
        for found, (observation, action) in zip(
            q_values,
            [
                (normalized.observation, normalized.action),
                (normalized.next_observation, act(normalized.next_observation)),
            ],
            strict=True,
        ):
            exact = TD3_BC.q_values(CONFIG, state, observation, action).mean(0)
            np.testing.assert_allclose(found[i], exact, **close)


def test_rows_in_chunks_equal_rows_at_once(result, monkeypatch):
    (last,) = load.load(result.run_dir)
    observation = np.random.default_rng(0).normal(size=(23, 2)).astype(np.float32)
    whole = last.actions(observation)
    monkeypatch.setattr(load, "ROWS_AT_ONCE", 5)
    np.testing.assert_allclose(last.actions(observation), whole, rtol=1e-5, atol=1e-6)


def test_true_returns_are_those_of_the_same_step(result):
    found = load.load(result.run_dir, all_checkpoints=True)
    rows = [
        json.loads(line) for line in (result.run_dir / "evaluations.jsonl").read_text().splitlines()
    ]
    assert [policies.step for policies in found] == [row["step"] for row in rows] == [10, 20]
    for policies, row in zip(found, rows, strict=True):
        assert policies.returns.shape == (2, 3)
        np.testing.assert_allclose(policies.returns, row["episode_returns"])
        np.testing.assert_allclose(policies.discounted_returns, row["discounted_return"])


def copied(result, tmp_path):
    return shutil.copytree(result.run_dir, tmp_path / "copy")


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 20, "return": [1.0, 2',
        "[]",
        '{"step": 20, "failed": "no display"}',
        '{"step": 20, "episode_returns": [[1.0], [2.0]]}',
        '{"step": 20, "episode_returns": [[1.0]], "discounted_return": [1.0]}',
        '{"step": 20, "episode_returns": [1.0, 2.0], "discounted_return": [1.0, 2.0]}',
        '{"step": 20, "episode_returns": [[1.0], [2.0, 3.0]], "discounted_return": [1.0, 2.0]}',
        '{"step": 20, "episode_returns": [[1.0], [2.0]], "discounted_return": [1.0]}',
    ],
)
def test_lines_that_are_no_evaluation_of_all_seeds_are_skipped(result, tmp_path, line):
    run = copied(result, tmp_path)
    path = run / "evaluations.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n" + line)
    first, last = load.load(run, all_checkpoints=True)
    assert first.returns.shape == (2, 3)
    assert last.returns is None and last.discounted_returns is None


def test_returns_that_were_not_finite_are_nan(result, tmp_path):
    run = copied(result, tmp_path)
    row = {"step": 20, "episode_returns": [[1, None], [2, 3]], "discounted_return": [None, 4]}
    (run / "evaluations.jsonl").write_text(json.dumps(row))
    (last,) = load.load(run)
    np.testing.assert_array_equal(last.returns, [[1, np.nan], [2, 3]])
    np.testing.assert_array_equal(last.discounted_returns, [np.nan, 4])
    assert last.returns.dtype == last.discounted_returns.dtype == np.float64


def test_reading_leaves_the_run_as_it_is(result):
    before = {path: path.stat().st_mtime_ns for path in result.run_dir.rglob("*")}
    load.load(result.run_dir, all_checkpoints=True)
    assert {path: path.stat().st_mtime_ns for path in result.run_dir.rglob("*")} == before


def test_a_damaged_checkpoint_gives_way_to_the_one_before(result, tmp_path, caplog):
    run = copied(result, tmp_path)
    shutil.rmtree(run / "checkpoints/20/state")
    (last,) = load.load(run)
    assert last.step == 10 and "checkpoint 20" in caplog.text
    shutil.rmtree(run / "checkpoints/10/state")
    with pytest.raises(InputError, match="no whole checkpoint with a policy"):
        load.load(run)


def test_seeds_that_diverged_are_left_out(result, tmp_path, monkeypatch):
    restore = load.Checkpoints.restore_step

    def diverged(*args):
        state, facts = restore(*args)
        return state, facts | {"diverged": ["critic/loss at step 20", None]}

    monkeypatch.setattr(load.Checkpoints, "restore_step", diverged)
    (last,) = load.load(result.run_dir)
    assert last.seeds == (6,) and last.returns.shape == (1, 3)
    np.testing.assert_array_equal(last.state.step, [20])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: (run / "config.json").unlink(), "holds no run that this version can read"),
        (lambda run: (run / "config.json").write_text("{}"), "holds no run"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "has no checkpoints"),
    ],
)
def test_what_is_no_run_is_refused(result, tmp_path, change, words):
    run = copied(result, tmp_path)
    change(run)
    with pytest.raises(InputError, match=words):
        load.load(run)
