"""A run in one call: trained, looked at, evaluated, saved, loaded, resumed and compared."""

import json
import os
from functools import partial

import jax
import numpy as np
import pytest

from offrl_jax.api.compare import compare
from offrl_jax.api.export import export
from offrl_jax.api.run import Run, evaluate, load_run, train
from offrl_jax.api.select import select
from offrl_jax.api.sweep import sweep
from offrl_jax.data import load_dataset, normalize_observations
from offrl_jax.networks.modules import MLP
from offrl_jax.presets.preset import Preset
from offrl_jax.runs.outcomes import Stopped
from offrl_jax.runs.policy import load_policy
from offrl_jax.types import InputError
from tests.toy import ENV_ID, Toy, rule, toy_dataset

TINY = {"network": (8,), "batch_size": 8}
SHORT = {"num_steps": 10, "num_evaluations": 1, "num_evaluation_episodes": 2, "progress": False}
bc = partial(train, "bc", config=TINY, **SHORT)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def run():
    return bc(toy_dataset(), num_seeds=2, seed=5)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("runs") / "bc")


def test_a_cell_of_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    run = train("bc", "pointmaze/umaze-600", config=TINY, num_seeds=2, **SHORT)
    print(run.evaluate(num_episodes=1))
    run.save(tmp_path / "run")
    again = load_run(tmp_path / "run")
    print(compare([again]))
    assert again.policy(1)({"observation": np.zeros(4), "desired_goal": np.ones(2)}).shape == (2,)
    assert run.settings["preset"]["num_steps"] == 10  # the preset of the maze, with that on top
    assert again.preprocessing.observation_mean.any() and run.config.batch_size == 8


def test_in_memory_nothing_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bc(toy_dataset())
    assert not os.listdir()
    assert run.path is None and run.session.run_dir is None


def test_metrics_and_evaluations_are_arrays_by_name(run):
    assert run.metrics["actor/loss"].shape == (1, 2) and run.metrics["step"].tolist() == [10]
    assert run.evaluations["score"].shape == (1, 2)
    assert run.evaluations["episode_returns"].shape == (1, 2, 2)
    assert run.seeds == (5, 6) and run.step == 10 and run.diverged == [None, None]


def test_a_directory_holds_what_memory_does(run, tmp_path):
    on_disk = bc(toy_dataset(), num_seeds=2, seed=5, run_dir=tmp_path / "run")
    assert_equal(on_disk.state, run.state)
    assert on_disk.settings == run.settings
    for name in ("metrics", "evaluations"):
        one, other = getattr(on_disk, name), getattr(run, name)
        assert one.keys() == other.keys()
        for key in one.keys() - {"steps_per_second"}:
            np.testing.assert_array_equal(one[key], other[key])


def test_a_saved_run_is_a_run_directory(run, saved):
    again = load_run(saved)
    assert_equal(again.state, run.state)
    assert_equal(again.metrics, run.metrics)
    assert_equal(again.evaluations, run.evaluations)
    assert again.settings == run.settings and again.facts["seconds"] == run.facts["seconds"]
    observation = np.ones(2)
    for policy in (again.policy(1), load_run(str(saved)).policy(1)):
        np.testing.assert_array_equal(policy(observation), run.policy(1)(observation))
    with pytest.raises(InputError, match="holds a run already"):
        run.save(saved)


def test_saving_leaves_its_neighbours_alone(run, tmp_path):
    (tmp_path / ".bc.mine").mkdir()
    (tmp_path / ".bc.123").mkdir()  # of a save that was killed
    run.save(tmp_path / "bc")
    assert sorted(os.listdir(tmp_path)) == [".bc.mine", "bc"]


def test_a_saved_run_resumes_bit_for_bit(saved, tmp_path):
    longer = {"num_seeds": 2, "seed": 5, "num_steps": 20, "num_evaluations": 2}
    undisturbed = train("bc", toy_dataset(), config=TINY, **SHORT | longer)
    resumed = load_run(saved).save(tmp_path / "resumed")
    resumed = train(
        "bc",
        toy_dataset(),
        config=TINY,
        run_dir=resumed,
        allow_config_change=True,
        **SHORT | longer,
    )
    assert resumed.session.num_steps == 10
    assert_equal(resumed.state, undisturbed.state)
    np.testing.assert_array_equal(
        resumed.evaluations["episode_returns"], undisturbed.evaluations["episode_returns"]
    )


def test_the_same_call_returns_a_finished_run(tmp_path):
    first = bc(toy_dataset(), run_dir=tmp_path / "run")
    again = bc(toy_dataset(), run_dir=tmp_path / "run")
    assert again.session is None and first.session is not None
    assert_equal(again.state, first.state)


def test_an_interrupted_run_is_loaded_as_far_as_it_came(tmp_path):
    asked = iter([False, True])
    with pytest.raises(Stopped, match=r"step 5 of 10, .* call with run_dir=.* resumes from there"):
        bc(
            toy_dataset(),
            run_dir=tmp_path / "run",
            num_evaluations=2,
            num_evaluation_episodes=0,
            stop=lambda: next(asked),
        )
    run = load_run(tmp_path / "run")
    assert run.step == 5 and run.facts == {} and run.metrics["step"].tolist() == [5]
    assert not (run.save(tmp_path / "copy") / "DONE").exists()
    with pytest.raises(Stopped, match="and not saved; give run_dir"):
        bc(toy_dataset(), stop=lambda: True)


def test_evaluation_prints_as_a_table(run):
    shown = repr(run.evaluate(num_episodes=3))
    assert "score" in shown and "95% interval" in shown and "over 2 seeds" in shown
    assert shown.splitlines()[1].split()[0] == "5"  # the first seed
    assert run.evaluate(num_episodes=3).rollouts.episode_return.shape == (2, 3)


def test_a_run_that_never_saw_its_environment_is_evaluated(tmp_path):
    data = toy_dataset(env_id=None, reference_scores=None)
    run = bc(data, num_evaluation_episodes=0, run_dir=tmp_path / "run")
    assert run.evaluations == {}
    with pytest.raises(InputError, match="names no environment to evaluate in; give one as"):
        evaluate(run)
    for environment in (ENV_ID, Toy):
        found = evaluate(tmp_path / "run", num_episodes=2, environment=environment)
        assert found.rollouts.episode_return.shape == (1, 2)
    with pytest.raises(InputError, match="num_episodes=0; give at least one"):
        evaluate(run, num_episodes=0)


def test_training_takes_an_environment(tmp_path):
    data = toy_dataset(env_id=None, reference_scores=None)
    by_function = bc(data, environment=Toy)
    by_id = bc(data, environment=ENV_ID)
    np.testing.assert_array_equal(by_function.evaluations["return"], by_id.evaluations["return"])
    assert by_id.spec.env_id == ENV_ID and by_function.spec.env_id is None


def test_an_algorithm_of_your_own_goes_wherever_one_goes(tmp_path, saved):
    path = tmp_path / "run"
    run = train(rule, toy_dataset(), run_dir=path, **SHORT)
    assert run.policy()(np.zeros(2)).shape == (2,)
    unnamed = "is a run of the algorithm 'rule'; give that as algorithm=…"
    for use in (load_run, load_policy, evaluate, export, partial(select, by="initial_value")):
        with pytest.raises(InputError, match=unnamed):
            use(path)
    assert load_run(path, algorithm=rule).step == 10
    np.testing.assert_array_equal(
        load_policy(path, algorithm=rule)(np.zeros(2)), run.policy()(np.zeros(2))
    )
    score = evaluate(path, num_episodes=1, algorithm=rule).rollouts.episode_return
    np.testing.assert_array_equal(score, run.evaluate(num_episodes=1).rollouts.episode_return)
    assert export(path, algorithm=rule).exists()
    assert len(compare([path, saved]).study.groups) == 2
    options = {"by": "initial_value", "scores": (), "dataset": toy_dataset()}
    for runs in ([path, saved], [load_run(path, algorithm=rule), saved]):
        own = {} if isinstance(runs[0], Run) else {"algorithm": rule}
        assert select(runs, **options, **own).choice["algorithm"] == "rule"
    with pytest.raises(InputError, match="is a run of the algorithm 'bc'; give that"):
        load_run(saved, algorithm=rule)


def test_a_grid_of_an_algorithm_of_your_own_is_swept_and_resumed(tmp_path):
    options = SHORT | {"grid": {"gain": [0.1, 0.2]}, "sweep_dir": tmp_path}
    once, again = (sweep(rule, toy_dataset(), **options) for _ in range(2))
    assert once.best.config.gain == again.best.config.gain == 0.2


def test_what_is_given_comes_on_top_of_the_preset():
    preset = Preset(config={"batch_size": 4, "network": MLP((4,))}, num_steps=10, reward_scale=2.0)
    options = {"num_evaluation_episodes": 0, "progress": False, "num_evaluations": 1}
    run = train("bc", toy_dataset(), preset=preset, config={"batch_size": 8}, **options)
    assert (run.config.batch_size, run.config.network, run.step) == (8, MLP((4,)), 10)
    assert run.preprocessing.reward_scale == 2.0
    best = train("bc", toy_dataset(), preset=preset, best_fraction=0.5, **options)
    assert len(best.dataset) == 30 and best.settings["best_fraction"] == 0.5


def test_numbers_of_numpy_are_numbers(tmp_path):
    whole = {"num_seeds": np.int64(2), "seed": np.int32(3), "num_steps": np.int64(10)}
    config = {"network": [8], "batch_size": np.int64(8), "learning_rate": np.float32(1e-3)}
    run = train("bc", toy_dataset(), config=config, run_dir=tmp_path / "run", **SHORT | whole)
    assert load_run(tmp_path / "run").settings == run.settings
    assert run.seeds == (3, 4) and run.config.network == MLP((8,))


def test_progress_is_shown_unless_it_is_turned_off(capsys):
    bc(toy_dataset())
    assert capsys.readouterr() == ("", "")
    bc(toy_dataset(), progress=True)
    assert "step 10/10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"algorithm": "cq1"}, "there is no algorithm 'cq1'; did you mean cql?"),
        ({"preset": "pointmase"}, "there is no preset 'pointmase'; did you mean pointmaze?"),
        ({"recipe": "quik"}, "no recipe 'quik'.*; did you mean quick?"),
        ({"config": {"netwrok": (8,)}}, "no setting 'netwrok'; did you mean network?"),
        ({"config": rule.Config()}, "config is a RuleConfig; bc takes a BCConfig"),
        ({"num_seeds": 0}, "num_seeds=0; give at least one"),
        ({"num_seeds": 2.0}, "num_seeds=2.0; give a whole number"),
        ({"num_seed": 3}, "train has no setting 'num_seed'; did you mean num_seeds?"),
        ({"data": np.zeros((9, 2))}, "data is of type ndarray; give a dataset"),
        ({"environment": 3}, "environment is of type int; give a registered id, or a function"),
        ({"preset": Preset(), "recipe": "quick"}, "recipe is given beside a Preset"),
        ({"data": "pointmaze/umase-600"}, "did you mean"),
        ({"setting_dirs": ["a"]}, "train has no setting 'setting_dirs'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_one_sentence(arguments, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        train(**{"algorithm": "bc", "data": toy_dataset(), "config": TINY} | SHORT | arguments)


def test_a_seed_that_is_not_there_has_no_policy(run):
    with pytest.raises(InputError, match="seed_index=2 but the run has seeds 0 to 1"):
        run.policy(2)


def test_runs_in_memory_and_on_disk_are_compared(run, saved, tmp_path):
    other = train("td3_bc", toy_dataset(), config=small_critic(), num_seeds=2, **SHORT)
    found = compare([run, other])
    (scores,) = found.scores.values()
    assert {label: len(of_label[0]) for label, of_label in scores.items()} == {"bc": 2, "td3_bc": 2}
    np.testing.assert_array_equal(scores["bc"][0], run.evaluations["score"][-1])
    shown = repr(found)
    for words in ("toy, score", "interquartile mean", "95% interval", "row beats column", "bc"):
        assert words in shown
    name = next(iter(found.scores))
    chances = found.improvements(name)
    assert chances["bc", "td3_bc"].value == pytest.approx(1 - chances["td3_bc", "bc"].value)
    by_pattern = compare(str(saved.parent / "b*"))
    assert "bc" in repr(by_pattern) and "row beats" not in repr(by_pattern)
    with pytest.raises(InputError, match="no directory matches"):
        compare(tmp_path / "none*")
    with pytest.raises(InputError, match="none of the given runs has ended"):
        compare(tmp_path)


def small_critic():
    return {"actor_network": (8,), "critic_network": (8,), "batch_size": 8}


def test_a_policy_is_selected_among_runs_in_memory(run, tmp_path):
    other = train("td3_bc", toy_dataset(), config=small_critic(), num_seeds=2, **SHORT)
    raw = toy_dataset()
    found = select([run, other], by="initial_value", scores=(), dataset=raw, output=tmp_path / "o")
    assert found.choice["algorithm"] == "td3_bc" and len(found.results["policies"]) == 4
    assert "the choice by initial_value" in repr(found)
    assert found.policy()(np.zeros(2)).shape == (2,)
    assert json.loads((tmp_path / "o/selection.json").read_text())["choice"] == found.choice
    for arguments, words in (
        ({"by": "fqee"}, "did you mean fqe"),
        ({"fqe_num_step": 1}, "did you mean fqe_num_steps"),
        ({"fqe_discount": 2.0}, r"fqe_discount=2.0 is outside \[0, 0.9999\]"),
        ({"dataset": normalize_observations(raw)}, "preprocessed already"),
    ):
        with pytest.raises(InputError, match=words):
            select(run, **{"dataset": raw} | arguments)


def test_a_policy_is_exported(run, saved, tmp_path):
    pytest.importorskip("flatbuffers")
    path = export(run, tmp_path / "policy.jaxexport", seed_index=1)
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    observation = np.ones((3, 2), np.float32)
    np.testing.assert_allclose(program.call(observation), run.policy(1)(observation), rtol=1e-5)
    assert export(saved) == saved / "policy.jaxexport"
    with pytest.raises(InputError, match="has no directory; give the file as output=…"):
        export(run)


def test_a_run_says_that_seeds_diverged():
    run = bc(toy_dataset(), num_seeds=2, divergence_limit=1e-9)
    assert repr(run) == "Run(bc on toy: 2 seeds, 10 steps, 2 diverged, in memory)"


def test_objects_print_short(run):
    assert repr(run).startswith("Run(bc on toy: 2 seeds, 10 steps, score ")
    shown = run, run.dataset, run.algorithm, run.policy(), run.session, run.session.rollouts
    for value in (*shown, run.trained(), run.dataset.transitions):
        assert len(repr(value)) < 400 and "\n" not in repr(value), repr(value)


def test_arguments_of_another_type_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="name is a NoneType; give a name or path"):
        load_dataset(None)
    train(rule, toy_dataset(), run_dir=tmp_path / "run", **SHORT)
    with pytest.raises(InputError, match="algorithm='rule' is a str, not an Algorithm"):
        load_run(tmp_path / "run", algorithm="rule")
    with pytest.raises(InputError, match="num_evaluation_episodes=-1; give 0"):
        train(rule, toy_dataset(), **SHORT | {"num_evaluation_episodes": -1})
