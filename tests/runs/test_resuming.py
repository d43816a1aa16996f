"""Runs that stop, fail, grow or lose something, and go on."""

import dataclasses
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS
from offrl_jax.algorithms.base import Phase
from offrl_jax.evaluation import diagnostics
from offrl_jax.networks.modules import MLP
from offrl_jax.runs import loop
from offrl_jax.runs.checkpoints import Checkpoints
from offrl_jax.runs.outcomes import AlreadyFinished, RunFailed, Stopped
from offrl_jax.runs.train import train
from offrl_jax.types import InputError
from tests.toy import RuleConfig, Toy, rule, toy_dataset


def learn(config, state, batch, key):
    """Depends on the batch, the key and all that came before."""
    noise = jax.random.normal(key)
    offset = 0.9 * state.offset + 0.02 * batch.reward.mean() + 0.01 * noise
    return state._replace(step=state.step + 1, offset=offset), {"rule/loss": offset}


def other(config, state, batch, key):
    state, metrics = learn(config, state, batch, key)
    return state._replace(offset=state.offset + 0.05), {"other/loss": metrics["rule/loss"]}


def relabel(config, state, dataset):
    """Rewards of the data shifted by the offset as it is every third step."""
    shift = jnp.where(state.step % 3 == 0, state.offset, state.unused[0])
    rows = dataset.transitions
    dataset = dataclasses.replace(
        dataset, transitions=rows._replace(reward=rows.reward + 100 * shift)
    )
    return state._replace(unused=jnp.full(3, shift)), dataset


def phases(*phases):
    return rule._replace(update=phases[-1].updates[0], phases=lambda config, update: phases)


TOY = rule._replace(update=learn)
BC = ALGORITHMS["bc"]
CASES = {
    "one phase": (TOY, RuleConfig()),
    "networks": (BC, BC.Config(network=MLP((8,)), batch_size=8)),
    "phases": (phases(Phase((other,), 4), Phase((learn, other))), RuleConfig()),
    "relabelled data": (
        phases(Phase((learn,), None, relabel=relabel, relabel_every=3)),
        RuleConfig(),
    ),
}


@pytest.fixture(scope="module")
def ruler():
    return diagnostics.clone_behavior(toy_dataset())


@pytest.fixture(autouse=True)
def cheap(monkeypatch, ruler):
    """Chunks of two updates, and one ruler for all runs, which share their data."""
    monkeypatch.setattr("offrl_jax.runs.schedule.MAX_CHUNK", 2)
    monkeypatch.setattr(diagnostics, "clone_behavior", lambda dataset: ruler)


def run(run_dir, algorithm=TOY, config=RuleConfig(), **options):  # noqa: B008
    options = {
        "num_steps": 8,
        "num_seeds": 2,
        "num_evaluations": 2,
        "num_evaluation_episodes": 2,
        "keep_last": 100,
        "checkpoint_seconds": 0,
    } | options
    return train(algorithm, config, toy_dataset(), run_dir=run_dir, **options)


class AfterRows:
    """Asks to stop once there are so many rows of metrics in a session."""

    def __init__(self, number=1):
        self._left = number

    def log(self, row):
        self._left -= "steps_per_second" in row

    def __call__(self):
        return self._left <= 0


def stopped(run_dir, number=1, **options):
    """A session of so many chunks; True unless it came to the run's end."""
    stop = AfterRows(number)
    try:
        run(run_dir, stop=stop, log=stop.log, **options)
    except Stopped:
        return True
    return False


def rows(run_dir, name="metrics"):
    return [json.loads(line) for line in (run_dir / f"{name}.jsonl").read_text().splitlines()]


def steps(run_dir, name="metrics"):
    return [row["step"] for row in rows(run_dir, name)]


def saved_steps(run_dir):
    return sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir())


def assert_same_directories(run_dir, reference):
    """Byte for byte, but for the speed."""
    for name in ("evaluations.jsonl", "policy/weights.npz", "policy/policy.json", "config.json"):
        assert (run_dir / name).read_bytes() == (reference / name).read_bytes(), name
    metrics = [[r | {"steps_per_second": 0} for r in rows(path)] for path in (run_dir, reference)]
    assert metrics[0] == metrics[1]
    digests = [
        {
            p.parts[-3]: json.loads(p.read_text())["sha256_of_arrays"]
            for p in path.glob("checkpoints/*/description/metadata")
        }
        for path in (run_dir, reference)
    ]
    assert digests[0] == digests[1] and len(set(digests[0].values())) == len(digests[0]) > 2
    assert (run_dir / "DONE").exists()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Directories of runs that nothing disturbed, by case."""
    folder, made = tmp_path_factory.mktemp("reference"), {}

    def reference(case="one phase"):
        if case not in made:
            made[case] = run(folder / case, *CASES[case]).run_dir
        return made[case]

    return reference


@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_after_every_chunk_ends_as_if_it_had_not_been(tmp_path, reference, case):
    reference = reference(case)
    algorithm, config = CASES[case]
    options = {"algorithm": algorithm, "config": config, "checkpoint_seconds": 1e9}
    num_chunks = len(steps(reference))
    sessions = 1
    while stopped(tmp_path / "run", **options):
        sessions += 1
        assert sessions <= num_chunks + 1
    assert sessions >= num_chunks
    assert_same_directories(tmp_path / "run", reference)


def test_a_stop_during_an_evaluation_evaluates_again(tmp_path, reference, monkeypatch):
    asked, play = threading.Event(), Toy.step

    def step(self, action):
        asked.set()
        time.sleep(0.3)
        return play(self, action)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="step 4 of 8"):
        patch.setattr(Toy, "step", step)
        patch.setattr(loop, "PATIENCE", 0.0)
        run(tmp_path / "run", stop=asked.is_set)
    assert steps(tmp_path / "run")[:2] == [2, 4]  # 6 where it was learnt beside the evaluation
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()
    run(tmp_path / "run")
    assert steps(tmp_path / "run", "evaluations") == [4, 8]
    assert_same_directories(tmp_path / "run", reference())


def test_a_stop_before_anything_is_learnt_leaves_a_run_to_go_on_with(tmp_path, reference):
    with pytest.raises(Stopped, match="step 0 of 8"):
        run(tmp_path / "run", stop=lambda: True)
    assert not (tmp_path / "run" / "DONE").exists()
    assert run(tmp_path / "run").num_steps == 8
    assert_same_directories(tmp_path / "run", reference())


def test_the_result_of_a_resumed_run_is_that_of_the_whole(tmp_path):
    whole = run(tmp_path / "whole")
    assert stopped(tmp_path / "run", 3)
    reports = []
    resumed = run(tmp_path / "run", report=lambda *report: reports.append(report))
    assert reports[0] == (6, {}) and [step for step, _ in reports[1:]] == [8, 8]
    assert all(numbers for _, numbers in reports[1:])
    assert (whole.num_steps, resumed.num_steps) == (8, 2)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)
    for name in whole.metrics:
        np.testing.assert_array_equal(resumed.metrics[name], whole.metrics[name])
    np.testing.assert_array_equal(resumed.rollouts.episode_return, whole.rollouts.episode_return)


def test_a_finished_run_is_not_run_again(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(AlreadyFinished):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("longer", "expected"),
    [
        ({"num_steps": 12, "num_evaluations": 3}, [2, 4, 6, 8, 10, 12]),
        ({"num_steps": 15, "num_evaluations": 5}, [2, 4, 6, 8, 9, 12, 15]),
    ],
    ids=["at the end of a chunk", "inside of a chunk"],
)
def test_a_finished_run_can_be_given_more_steps(tmp_path, monkeypatch, longer, expected):
    first = run(tmp_path / "run").run_dir
    before = rows(first)
    monkeypatch.setattr("offrl_jax.runs.schedule.MAX_CHUNK", 3 if longer["num_steps"] == 15 else 2)
    with pytest.raises(InputError, match="num_steps was 8, now"):
        run(tmp_path / "run", **longer)
    result = run(tmp_path / "run", allow_config_change=True, **longer)
    assert result.num_steps == longer["num_steps"] - 8
    assert steps(first) == expected and rows(first)[:4] == before
    assert (first / "DONE").exists()
    straight = run(tmp_path / "straight", **longer)
    np.testing.assert_allclose(result.state.offset, straight.state.offset, rtol=1e-5)
    every = longer["num_steps"] // longer["num_evaluations"]
    wanted = sorted({4, 8} | {s for s in range(every, longer["num_steps"] + 1, every) if s > 8})
    assert steps(first, "evaluations") == wanted


def test_fewer_steps_than_are_done_is_a_sentence_and_takes_nothing(tmp_path):
    run_dir = run(tmp_path / "run").run_dir
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file() and p.suffix != ".lock"}
    with pytest.raises(InputError, match="at step 8 already, beyond the 4 asked for"):
        run(run_dir, num_steps=4, allow_config_change=True)
    after = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert after == before


@pytest.mark.parametrize("lost", ["metrics", "evaluations"])
def test_where_rows_are_missing_an_earlier_checkpoint_is_gone_on_from(
    tmp_path, reference, caplog, lost
):
    assert stopped(tmp_path / "run", 3)  # with rows of evaluations up to step 4
    path = tmp_path / "run" / f"{lost}.jsonl"
    if not path.exists() or not rows(tmp_path / "run", "evaluations"):
        pytest.fail("nothing to lose")
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:-1]))
    resumed = run(tmp_path / "run")
    assert resumed.num_steps == 4 and "damaged" in caplog.text
    assert_same_directories(tmp_path / "run", reference())


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, [4, 6, 8, 10, 12]), (1e9, [8, 12])], ids=["always", "rarely"]
)
def test_checkpoints_are_as_far_apart_as_asked_and_at_evaluations(tmp_path, seconds, expected):
    """Pretraining is saved too."""
    algorithm = phases(Phase((other,), 4), Phase((learn,)))
    run(tmp_path / "run", algorithm, checkpoint_seconds=seconds)
    saved = saved_steps(tmp_path / "run")
    assert saved == sorted({*expected, *([2] if seconds == 0 else [])})


def test_checkpoints_to_keep_are_kept(tmp_path):
    run(tmp_path / "run", keep_last=1, keep_every=4)
    assert saved_steps(tmp_path / "run") == [4, 8]
    run(tmp_path / "other", keep_last=1)
    assert saved_steps(tmp_path / "other") == [8]
    for wrong in ({"keep_last": 0}, {"keep_every": 0}):
        with pytest.raises(InputError, match="give at least 1 each"):
            run(tmp_path / "wrong", **wrong)


@pytest.mark.parametrize("callback", ["log", "report"])
@pytest.mark.parametrize("calls", [1, 3])
def test_a_callback_that_fails_is_told_and_the_run_goes_on_later(
    tmp_path, reference, callback, calls
):
    left = iter(range(calls - 1))

    def fail(*_):
        if next(left, None) is None:
            raise ValueError("no such window")

    with pytest.raises(ValueError, match="no such window"):
        run(tmp_path / "run", **{callback: fail})
    failed = json.loads((tmp_path / "run" / "FAILED.json").read_text())
    assert failed["reason"] == "ValueError: no such window"
    run(tmp_path / "run")
    assert not (tmp_path / "run" / "FAILED.json").exists()
    assert_same_directories(tmp_path / "run", reference())


def test_what_cannot_be_written_fails_the_run_which_goes_on_later(tmp_path, reference, monkeypatch):
    save, saved = Checkpoints.save, []

    def full(self, step, *arguments):
        if step == 6:
            raise OSError("no space left on device")
        saved.append(step)
        save(self, step, *arguments)

    with monkeypatch.context() as patch, pytest.raises(RunFailed, match="no space left") as caught:
        patch.setattr(Checkpoints, "save", full)
        run(tmp_path / "run")
    assert isinstance(caught.value.__cause__, OSError) and saved == [2, 4]
    assert "no space left" in (tmp_path / "run" / "FAILED.json").read_text()
    assert run(tmp_path / "run").num_steps == 4
    assert_same_directories(tmp_path / "run", reference())


def test_a_failed_evaluation_or_a_lost_run_reports_no_empty_numbers(tmp_path, monkeypatch):
    """Which would say that a run goes on."""
    reports = []

    def fail(self, action):
        raise RuntimeError("the simulator is gone")

    def diverge(config, state, batch, key):
        return state._replace(step=state.step + 1), {"rule/loss": jnp.nan * state.offset}

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "step", fail)
        run(tmp_path / "evaluation", report=lambda *report: reports.append(report))
    assert [step for step, _ in reports] == [2, 4, 6, 8]
    run(
        tmp_path / "lost",
        rule._replace(update=diverge),
        report=lambda *report: reports.append(report),
    )
    assert all(numbers for _, numbers in reports)


def test_training_goes_on_beside_an_evaluation(tmp_path, reference, monkeypatch):
    further, logged, play = threading.Event(), [], Toy.step

    def step(env, action):
        assert further.wait(30), "training waits"
        return play(env, action)

    def log(row):
        logged.append((row["step"], "return" in row))
        if row["step"] == 6:
            further.set()

    monkeypatch.setattr(Toy, "step", step)
    result = run(tmp_path / "run", checkpoint_seconds=1e9, log=log)
    assert logged[:3] == [(2, False), (4, False), (6, False)]
    assert [step for step, is_evaluation in logged if is_evaluation] == [4, 8]
    for name in ("evaluations.jsonl", "policy/weights.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (reference() / name).read_bytes()
    assert result.evaluation_seconds > result.seconds["evaluation"]


def test_a_checkpoint_has_the_evaluations_up_to_it(tmp_path, monkeypatch):
    save, saved, play = Checkpoints.save, {}, Toy.step

    def spied(self, step, state, facts):
        saved[step] = facts["rows"]["evaluations.jsonl"][0]
        save(self, step, state, facts)

    def slow(env, action):
        time.sleep(0.05)
        return play(env, action)

    monkeypatch.setattr(Checkpoints, "save", spied)
    monkeypatch.setattr(Toy, "step", slow)
    run(tmp_path / "run")
    first, _ = (tmp_path / "run" / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    assert saved == {2: 0, 4: 0, 6: len(first), 8: len(first)}


def slowed(patch):
    """Has an evaluation take three seconds, and counts its steps."""
    taken, play = [], Toy.step

    def step(env, action):
        time.sleep(0.3)
        taken.append(env)
        return play(env, action)

    patch.setattr(Toy, "step", step)
    return taken


@pytest.mark.parametrize(("patience", "step"), [(20.0, 6), (0.0, 4)])
def test_a_stop_beside_an_evaluation_waits_for_it_a_while(
    tmp_path, reference, monkeypatch, patience, step
):
    """Without its row what was learnt since cannot be saved, and is learnt again."""
    stop = AfterRows(3)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"step {step} of 8"):
        slowed(patch)
        patch.setattr(loop, "PATIENCE", patience)
        run(tmp_path / "run", stop=stop, log=stop.log)
    assert steps(tmp_path / "run") == [2, 4, 6] and saved_steps(tmp_path / "run")[-1] == step
    run(tmp_path / "run")
    assert_same_directories(tmp_path / "run", reference())


def test_an_error_beside_an_evaluation_ends_it(tmp_path, monkeypatch):
    def fail(row):
        if row["step"] == 6:
            raise ValueError("no such window")

    taken = slowed(monkeypatch)
    with pytest.raises(ValueError, match="no such window"):
        run(tmp_path / "run", log=fail)
    before = len(taken)
    time.sleep(0.5)
    assert len(taken) == before < 10
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()
