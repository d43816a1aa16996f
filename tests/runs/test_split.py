"""Settings trained side by side leave what each leaves alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.config import grid
from offrl_jax.evaluation import diagnostics
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.outcomes import Stopped
from offrl_jax.runs.policy import load_policy
from offrl_jax.runs.train import train
from offrl_jax.types import InputError
from tests.toy import RuleConfig, rule, toy_dataset

SAC = ALGORITHMS["sac"]
SETTINGS = grid(
    SAC.Config(batch_size=8, actor_network=MLP((8,)), critic_network=MLP((8,))),
    critic_learning_rate=[1e-2, 3e-4],
    actor_learning_rate=[1e-3],
)
NEAR = {"rtol": 2e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def ruler():
    return diagnostics.clone_behavior(toy_dataset())


@pytest.fixture(autouse=True)
def cheap(monkeypatch, ruler):
    monkeypatch.setattr(diagnostics, "clone_behavior", lambda dataset: ruler)


def run(run_dir, algorithm, config, **options):
    options = {
        "num_steps": 8,
        "num_seeds": 2,
        "seed": 3,
        "num_evaluations": 2,
        "num_evaluation_episodes": 2,
        "record": {"note": "kept"},
    } | options
    return train(algorithm, config, toy_dataset(), run_dir=run_dir, **options)


def side_by_side(folder, algorithm=SAC, configs=SETTINGS, **options):
    dirs = [folder / "runs" / str(i) for i in range(len(configs))]
    result = run(folder / "job", algorithm, configs, setting_dirs=dirs, **options)
    return result, dirs


def rows(run_dir, name):
    lines = (run_dir / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) | {"steps_per_second": 0} for line in lines]


def assert_near(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **NEAR), found, expected)


@pytest.fixture(scope="module")
def both(tmp_path_factory, ruler):
    """Directories of settings trained together, and of each alone."""
    folder = tmp_path_factory.mktemp("cells")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "clone_behavior", lambda dataset: ruler)
        _, dirs = side_by_side(folder)
        alone = [folder / "alone" / str(i) for i in range(len(SETTINGS))]
        for run_dir, config in zip(alone, SETTINGS, strict=True):
            run(run_dir, SAC, config)
    return list(zip(dirs, alone, strict=True))


def test_a_setting_leaves_the_files_that_it_leaves_alone(both):
    for found, expected in both:
        assert {p.name for p in found.iterdir()} == {p.name for p in expected.iterdir()}
        for name in ("config.json", "policy/policy.json"):
            assert (found / name).read_bytes() == (expected / name).read_bytes()
        done = json.loads((found / "DONE").read_text())
        assert done["step"] == 8 and done["diverged"] == [None, None]
        environment = json.loads((found / "environment.json").read_text())
        assert environment["trained_beside"] == 1 and environment["versions"]


def test_a_setting_has_the_numbers_that_it_has_alone(both):
    for found, expected in both:
        for name in ("metrics", "evaluations"):
            assert_near(rows(found, name), rows(expected, name))
        weights = [dict(np.load(path / "policy/weights.npz")) for path in (found, expected)]
        assert_near(*weights)
    first, second = (rows(found, "metrics")[-1]["critic/loss"] for found, _ in both)
    assert not np.allclose(first, second, rtol=1e-2)  # the settings matter
    assert len({load_policy(both[0][0], i)(np.ones(2)).tobytes() for i in range(2)}) == 2


def test_a_setting_has_the_checkpoint_that_it_has_alone(both):
    for found, expected in both:
        template = jax.eval_shape(
            lambda: jax.vmap(lambda key: SAC.init(SETTINGS[0], toy_dataset().spec, key))(
                jax.random.split(jax.random.key(0), 2)
            )
        )
        (step, state, _), (_, other, _) = (
            Checkpoints(path / "checkpoints").restore(template) for path in (found, expected)
        )
        assert step == 8
        assert_near(state, other)


def test_a_setting_can_be_trained_further_by_itself(tmp_path):
    _, (first, _) = side_by_side(tmp_path)
    result = run(first, SAC, SETTINGS[0], num_steps=16, allow_config_change=True)
    assert result.num_steps == 8 and (result.state.step == 16).all()
    assert [row["step"] for row in rows(first, "metrics")] == [4, 8, 16]


def test_settings_in_batches_have_the_same_numbers(tmp_path, both):
    _, dirs = side_by_side(tmp_path, seed_batch=2)
    for found, (expected, _) in zip(dirs, both, strict=True):
        assert_near(rows(found, "metrics"), rows(expected, "metrics"))
        assert (found / "config.json").read_bytes() == (expected / "config.json").read_bytes()


def update(config, state, batch, key):
    """Diverges at the fourth step with a gain above 0.6."""
    is_lost = (state.step >= 3) & (config.gain > 0.6)
    loss = jnp.where(is_lost, jnp.nan, jax.random.normal(key) + batch.reward.mean())
    return state._replace(step=state.step + 1), {"rule/loss": loss}


FRAGILE = rule._replace(update=update)
GAINS = grid(RuleConfig(), gain=[0.5, 0.7])


def test_a_setting_that_diverges_fails_alone(tmp_path, caplog):
    result, (healthy, lost) = side_by_side(tmp_path, FRAGILE, GAINS)
    assert result.failed is None
    assert (healthy / "DONE").exists() and not (lost / "DONE").exists()
    reason = json.loads((lost / "FAILED.json").read_text())["reason"]
    assert "2 of 2 seeds diverged (seed 0: rule/loss is nan at step 4" in reason
    assert "seed 1 of 1 diverged: its rule/loss is nan at step 4" in caplog.text
    run(tmp_path / "alone", FRAGILE, GAINS[0])
    for name in ("metrics", "evaluations"):
        assert_near(rows(healthy, name), rows(tmp_path / "alone", name))
    assert rows(lost, "evaluations")[-1]["return"] == [None, None]
    policy = json.loads((lost / "policy/policy.json").read_text())
    assert policy["diverged"] == ["rule/loss is nan at step 4"] * 2


class AfterRows:
    """Asks to stop once there are so many rows of metrics in a session."""

    def __init__(self, number):
        self._left = number

    def log(self, row):
        self._left -= "steps_per_second" in row

    def __call__(self):
        return self._left <= 0


def test_stopped_settings_go_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("offrl_jax.runs.schedule.MAX_CHUNK", 2)
    _, expected = side_by_side(tmp_path / "whole")
    stop = AfterRows(1)
    with pytest.raises(Stopped):
        side_by_side(tmp_path / "stopped", stop=stop, log=stop.log)
    assert not (tmp_path / "stopped" / "runs").exists()
    _, dirs = side_by_side(tmp_path / "stopped")
    for found, other in zip(dirs, expected, strict=True):
        for name in ("policy/weights.npz", "evaluations.jsonl", "config.json"):
            assert (found / name).read_bytes() == (other / name).read_bytes()
        assert rows(found, "metrics") == rows(other, "metrics")


def test_settings_that_are_there_stay_and_leftovers_go(tmp_path):
    kept, leftover = tmp_path / "runs" / "0", tmp_path / "runs" / ".1.123"
    kept.mkdir(parents=True)
    (kept / "mine").touch()
    (leftover / "policy").mkdir(parents=True)
    _, dirs = side_by_side(tmp_path, FRAGILE, GAINS[:1] * 2)
    assert [p.name for p in kept.iterdir()] == ["mine"]
    assert not leftover.exists() and (dirs[1] / "DONE").exists()


def test_every_setting_needs_a_directory(tmp_path):
    for config, dirs in ((GAINS, []), (GAINS, ["a"]), (GAINS[0], ["a"])):
        with pytest.raises(InputError, match="a directory for each"):
            run(tmp_path / "job", FRAGILE, config, setting_dirs=dirs)


@pytest.mark.parametrize(
    ("configs", "options", "words"),
    [
        (grid(SETTINGS[0], discount=[0.9, 0.99]), {}, "cannot differ in discount"),
        ([GAINS[0], RuleConfig(batch_size=8)], {}, "differ in a static one"),
        ([GAINS[0], RuleConfig(gain=float("nan"))], {}, "gain=nan"),
        (GAINS, {"seed_batch": 3}, "seed_batch=3 does not divide 4"),
    ],
    ids=["discount", "static", "not a number", "seed_batch"],
)
def test_settings_that_cannot_be_trained_together_write_nothing(tmp_path, configs, options, words):
    algorithm = SAC if isinstance(configs[0], SAC.Config) else FRAGILE
    with pytest.raises(InputError, match=words):
        side_by_side(tmp_path, algorithm, configs, **options)
    assert not any(tmp_path.iterdir())
