"""Runs on the disk as a study: what is pooled, what is told apart, and what is not counted."""

import json

import numpy as np
import pytest

from offrl_jax.networks.modules import MLP
from offrl_jax.networks.serialization import to_json
from offrl_jax.reports.estimates import aggregates, improvement, over_seeds
from offrl_jax.reports.study import compared, differing, read_study
from offrl_jax.types import InputError
from tests.fabricated_runs import write_run

CURVE = [[0.0, 10.0, 20.0], [60.0, 30.0, 90.0], [40.0, 50.0, 30.0]]


def the_group(study):
    (group,) = study.groups
    return group


def test_seeds_of_several_runs_are_pooled(tmp_path):
    paths = [
        write_run(tmp_path / "a", CURVE),
        write_run(tmp_path / "b", [[1.0], [2.0], [3.0]], seed=3),
    ]
    study = read_study(paths)
    group = the_group(study)
    assert group.label == "bc" and group.seeds == [0, 1, 2, 3] and not study.problems
    assert group.last.tolist() == [40.0, 50.0, 30.0, 3.0]
    assert group.best.tolist() == [60.0, 50.0, 90.0, 3.0]
    steps, scores = group.curve
    assert steps.tolist() == [100, 200, 300]
    np.testing.assert_array_equal(scores[:, :3], CURVE)
    assert group.task.name == "task" and group.task.data_average == 25.0


def test_a_seed_that_is_there_twice_counts_once(tmp_path):
    paths = [write_run(tmp_path / "a", CURVE), write_run(tmp_path / "b", CURVE, seed=2)]
    study = read_study(paths)
    assert the_group(study).seeds == [0, 1, 2]
    assert len(study.problems) == 1
    assert "b repeats seed 2 of" in study.problems[0] and "a with the same" in study.problems[0]


def test_settings_that_differ_tell_groups_apart_by_name(tmp_path):
    paths = [
        write_run(tmp_path / "a", CURVE, algorithm="cql", config={"conservative_weight": 5.0}),
        write_run(tmp_path / "b", CURVE, algorithm="cql", config={"conservative_weight": 0.5}),
        write_run(tmp_path / "c", CURVE),
        write_run(
            tmp_path / "d",
            CURVE,
            algorithm="cql",
            config={"conservative_weight": 5.0},
            dataset={"fingerprint": "e" * 64, "name": "other"},
        ),
    ]
    study = read_study(paths)
    assert [(g.task.name, g.label) for g in study.groups] == [
        ("other", "cql conservative_weight=5"),
        ("task", "bc"),
        ("task", "cql conservative_weight=0.5"),
        ("task", "cql conservative_weight=5"),
    ]
    told = differing(study.groups)
    assert list(told) == ["config.conservative_weight"]
    assert [len(groups) for groups in told["config.conservative_weight"].values()] == [2, 1]


def test_networks_that_differ_are_told_as_on_the_command_line(tmp_path):
    """One of your own, whose class a report does not know, by its fields."""
    own = {"module": "Residual", "width": 64}
    for name, network in {"a": MLP((8, 8)), "b": MLP(dropout=0.1)}.items():
        write_run(tmp_path / name, CURVE, config={"network": to_json(network)})
    write_run(tmp_path / "c", CURVE, algorithm="iql", config={"actor_network": own})
    other = own | {"width": 32}
    write_run(tmp_path / "d", CURVE, algorithm="iql", config={"actor_network": other})
    study = read_study([tmp_path / name for name in "abcd"])
    assert [group.label for group in study.groups] == [
        "bc network=8x8",
        "bc network=MLP(dropout=0.1)",
        "iql width=32",
        "iql width=64",
    ]
    assert list(differing(study.groups)["config.network"]) == [
        '"8x8"',
        '"MLP(dropout=0.1)"',
    ]


def test_many_differing_settings_become_a_number(tmp_path):
    paths = [
        write_run(
            tmp_path / str(i),
            CURVE,
            config={f"a_setting_with_a_long_name_{k}": i for k in range(5)},
        )
        for i in range(2)
    ]
    assert [group.label for group in read_study(paths).groups] == ["bc setting 1", "bc setting 2"]


def test_the_same_data_judged_elsewhere_are_another_task(tmp_path):
    paths = [
        write_run(tmp_path / "a", CURVE),
        write_run(tmp_path / "b", CURVE, dataset={"env_id": "Hopper-v4"}),
    ]
    assert [task.name for task in read_study(paths).tasks] == ["task (1)", "task (2)"]


def test_a_diverged_seed_is_counted_but_has_no_score(tmp_path):
    scores = [[10.0, 20.0], [12.0, np.nan]]
    path = write_run(tmp_path / "a", scores, diverged=[None, "critic/loss at step 200"])
    group = the_group(read_study([path]))
    assert group.num_diverged == 1 and group.seeds == [0, 1]
    assert group.judged.tolist() == [12.0] and group.best.tolist() == [12.0, 20.0]


def test_a_run_whose_seeds_all_diverged_stays_in_the_study(tmp_path):
    lost = ["critic/loss at step 100"] * 2
    path = write_run(
        tmp_path / "a", [[np.nan, np.nan]], ending="FAILED.json", diverged=lost, num_steps=900
    )
    study = read_study([path])
    group = the_group(study)
    assert group.num_diverged == 2 and len(group.judged) == len(group.best) == 0
    assert study.problems == [f"{path} failed: a reason"]


def test_without_scores_a_task_is_judged_by_returns(tmp_path):
    path = write_run(tmp_path / "a", CURVE, dataset={"reference_scores": None})
    rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "score"}) for row in rows]
    (path / "evaluations.jsonl").write_text("\n".join(lines))
    study = read_study([path])
    group = the_group(study)
    assert group.task.measure == "return" and group.task.data_average == 50.0
    assert group.last.tolist() == [80.0, 100.0, 60.0]
    assert compared(study) == ([], {})


def test_value_errors_are_of_the_last_policies(tmp_path):
    path = write_run(tmp_path / "a", CURVE, value_error=-4.0)
    np.testing.assert_allclose(the_group(read_study([path])).value_error, [-4.0, -3.0, -2.0])


def test_what_has_scores_on_all_tasks_of_most_is_compared(tmp_path):
    other, third = ({"fingerprint": name * 16, "name": name} for name in ("other", "third"))
    study = read_study(
        [
            write_run(tmp_path / "a", [[10.0, 20.0]]),
            write_run(tmp_path / "b", [[30.0, 40.0, 50.0]], dataset=other),
            write_run(tmp_path / "c", [[99.0]], algorithm="iql"),
            write_run(tmp_path / "d", [[np.nan]], algorithm="iql", dataset=other, diverged=["x"]),
            write_run(tmp_path / "e", [[1.0]], algorithm="cql"),
            write_run(tmp_path / "f", [[2.0]], algorithm="cql", dataset=other),
            write_run(tmp_path / "g", [[3.0]], algorithm="cql", dataset=third),
        ]
    )
    tasks, found = compared(study)
    assert [task.name for task in tasks] == ["other", "task"]  # one of three is on the third
    assert list(found) == ["bc", "cql"]
    assert [scores.tolist() for scores in found["bc"]] == [[30.0, 40.0, 50.0], [10.0, 20.0]]
    assert [scores.tolist() for scores in found["cql"]] == [[2.0], [1.0]]


def test_estimates_are_the_statistics():
    tasks = [np.array([10.0, 20.0]), np.array([30.0, 140.0])]
    found = aggregates(tasks)
    assert found["interquartile mean"].value == 25.0
    assert found["mean"].value == 50.0
    assert found["optimality gap"].value == 100 - (10 + 20 + 30 + 100) / 4
    assert found["mean"].low == 20.0 and found["mean"].high == 80.0
    better = improvement(tasks, [np.array([0.0, 15.0]), np.array([500.0, 501.0])])
    assert better.value == (0.75 + 0.0) / 2
    assert over_seeds(np.array([1.0, 3.0])).value == 2.0
    assert np.isnan(over_seeds(np.array([1.0])).low)


def damaged(tmp_path, name, text):
    path = write_run(tmp_path / "bad", CURVE)
    (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "cannot be read"),
        ("[1, 2]", "holds a list and no object"),
        ("{}", "is not as a training writes it (see its algorithm)"),
        ('{"algorithm": "bc", "config": {}, "num_steps": "9"}', "see its num_steps"),
    ],
)
def test_a_config_that_is_no_runs_is_told_and_the_rest_counted(tmp_path, text, problem):
    bad = damaged(tmp_path, "config.json", text)
    study = read_study([bad, write_run(tmp_path / "good", CURVE)])
    (told,) = study.problems
    assert problem in told and str(bad) in told and "\n" not in told
    assert the_group(study).runs[0].path.name == "good"


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"step": "300", "return": [1, 2, 3]}',
        '{"step": 300, "return": [1, 2]}',
        '{"step": 300, "return": [1, 2, "3"]}',
        '{"step": 300, "score": [1, 2, 3]}',
        '{"step": 300, "failed": "it hung"}',
    ],
)
def test_a_damaged_last_evaluation_is_told_and_not_made_up(tmp_path, line):
    path = write_run(tmp_path / "a", CURVE)
    rows = (path / "evaluations.jsonl").read_text().splitlines()
    (path / "evaluations.jsonl").write_text("\n".join([*rows[:2], line]))
    study = read_study([path])
    assert len(study.problems) == 2
    assert "a has no evaluation of its last policies" in study.problems[1]
    assert len(the_group(study).judged) == 0
    assert the_group(study).curve[0].tolist() == [100, 200]


def test_an_infinite_number_is_none(tmp_path):
    path = write_run(tmp_path / "a", CURVE)
    text = (path / "evaluations.jsonl").read_text()
    (path / "evaluations.jsonl").write_text(text.replace("[40.0,", "[Infinity,"))
    assert the_group(read_study([path])).judged.tolist() == [50.0, 30.0]


def test_what_has_not_ended_is_not_counted(tmp_path):
    unfinished = write_run(tmp_path / "a", CURVE, ending=None, num_steps=900)
    bare = write_run(tmp_path / "b", CURVE, seed=3)
    (bare / "evaluations.jsonl").unlink()
    study = read_study([unfinished, bare, write_run(tmp_path / "c", CURVE, seed=6), tmp_path])
    assert the_group(study).seeds == [6, 7, 8]
    assert [problem.partition(" (")[0] for problem in study.problems] == [
        f"{tmp_path} is no run directory: it has no config.json; give one that has",
        f"{unfinished} has not ended",
        f"{bare} has no evaluations and is not counted; train it with evaluations, or finish it",
    ]


def test_nothing_of_use_is_an_error_of_one_sentence(tmp_path):
    with pytest.raises(InputError, match="none of the given runs has ended"):
        read_study([tmp_path])


def test_data_that_runs_do_not_describe_are_described_elsewhere(tmp_path):
    filtered = write_run(tmp_path / "a", CURVE, best_fraction=0.1)
    seen = []
    study = read_study([filtered], lambda dataset: seen.append(dataset) or {"mean_score": 3.0})
    assert study.tasks[0].data_average == 3.0 and seen[0]["name"] == "data/task.hdf5"
    whole = write_run(tmp_path / "b", CURVE, best_fraction=1.0)
    study = read_study([filtered, whole], lambda dataset: {"mean_score": 3.0})
    assert study.tasks[0].data_average == 25.0
