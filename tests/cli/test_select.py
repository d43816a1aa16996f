"""The selecting command: one process runs it in many ways, and the tests read what it did.

A process of its own, since flags are global and another command's share their names.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DRIVER = """
import dataclasses, json, shutil, sys
from pathlib import Path

import numpy as np

from offrl_jax.api import policy_scores, select as api
from offrl_jax.cli import select as command
from offrl_jax import data
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.load import load as load_run
from offrl_jax.runs.train import train
from tests import commands
from tests.toy import Toy, toy_dataset

folder = Path(sys.argv[1])
own = {"actor_network": MLP((8,)), "critic_network": MLP((8,))}
trainings = {
    "td3": ("td3_bc", own, {"num_seeds": 2}),
    "bc": ("bc", {"network": MLP((8,))}, {"num_seeds": 1}),
}
for name, (algorithm, config, options) in trainings.items():
    algorithm = ALGORITHMS[algorithm]
    dataset = data.normalize_observations(toy_dataset())
    if name == "td3":
        dataset = data.transform_rewards(dataset, scale=0.1, bias=1.0)
    train(
        algorithm,
        algorithm.Config(batch_size=8, **config),
        dataset,
        run_dir=folder / name,
        num_steps=20,
        num_evaluations=2,
        num_evaluation_episodes=3,
        **options,
    )
shutil.copytree(folder / "bc", folder / "unseen")
(folder / "unseen/evaluations.jsonl").unlink()
shutil.copytree(folder / "bc", folder / "unknown")
row = {"step": 20, "episode_returns": [[1.0, None, 2.0]], "discounted_return": [None]}
(folder / "unknown/evaluations.jsonl").write_text(json.dumps(row))
shutil.copytree(folder / "bc", folder / "other")
path = folder / "other/config.json"
path.write_text(path.read_text().replace(dataset.spec.fingerprint, "0" * 64))


reward = toy_dataset().transitions.reward


for field, value in [
    ("env_id", "Else-v0"), ("env_kwargs", {"goal": 1}), ("max_episode_steps", 7)
]:
    shutil.copytree(folder / "bc", folder / field)
    path = folder / field / "config.json"
    settings = json.loads(path.read_text())
    settings["dataset"][field] = value
    path.write_text(json.dumps(settings))


def load(name, *, observation_keys, clip_actions, trust_dataset_env):
    dataset = toy_dataset()  # mazes refuse an env_id; episodes take the run's
    return dataclasses.replace(dataset, transitions=dataset.transitions._replace(reward=reward))


api.data.load_dataset = load
for name in ("no room/selection.json", "no figure/scores.png"):
    (folder / name).mkdir(parents=True)
results = {}


def run(name, runs, *flags):
    Toy.steps = 0
    flags = [*(str(folder / r) for r in runs), f"--output={folder / name}", *flags]
    results[name] = commands.run(command, *flags) | {"environment_steps": Toy.steps}


run("all", ["td3", "bc"], "--checkpoints=all", "--fqe_num_steps=20")
run("last", ["td3", "unseen"], "--by=td_error", "--scores=")
run("not finite", ["td3", "unknown"], "--by=td_error", "--scores=")
run("online", ["td3", "bc"], "--by=online", "--num_online_episodes=7", "--scores=initial_value")
for name, runs_, flags in [
    ("no run", [], []),
    ("discount", ["nowhere"], ["--fqe_discount=nan"]),
    ("quantile", ["nowhere"], ["--success_quantile=nan"]),
    ("nowhere", ["nowhere"], []),
    ("no budget", ["bc"], ["--by=online"]),
    ("small budget", ["td3", "bc"], ["--by=online", "--num_online_episodes=2"]),
    ("budget offline", ["bc"], ["--num_online_episodes=2"]),
    ("no such score", ["bc"], ["--scores=fqe,opera"]),
    ("other data", ["bc", "other"], []),
    *((field, ["bc", field], []) for field in ("env_id", "env_kwargs", "max_episode_steps")),
    ("moved data", ["other"], []),
    ("no values", ["bc"], ["--by=initial_value", "--scores=fqe"]),
    ("no critic", ["bc", "unknown"], ["--by=td_error", "--scores="]),
    ("no room", ["td3"], ["--by=td_error", "--scores="]),
    ("no figure", ["td3"], ["--by=td_error", "--scores="]),
    ("a file", ["bc"], [f"--output={folder / 'bc/config.json'}"]),
]:
    run(name, runs_, *flags)
reward = np.zeros(60, np.float32)
run("all alike", ["td3"], "--by=soft_opc", "--scores=")
reward[5] = 1.0  # of the second of 20 episodes
run("sparse", ["td3"], "--by=soft_opc", "--scores=")
q, _ = load_run(folder / "td3")[0].q_values(toy_dataset().transitions)
results["sparse"]["q"] = q.tolist()
reward[5:8] = 0.0, -2.0, 3.0
fqe, given = policy_scores.fqe, []
fit = fqe.fit
fqe.fit = lambda *args, **options: given.append((args, options)) or fit(*args, **options)
run("a sample", ["td3"], "--fqe_num_steps=1", "--fqe_num_transitions=2", "--scores=")
(args, options), = given
results["a sample"] |= options | {"num_transitions": len(args[1].reward)}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("select")


@pytest.fixture(scope="module")
def results(folder):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def selected(folder, results, name):
    assert results[name]["code"] == 0, (results[name]["code"], results[name]["err"])
    return json.loads((folder / name / "selection.json").read_text())


def test_every_checkpoint_of_every_run_is_a_policy(folder, results):
    found = selected(folder, results, "all")
    names = [(Path(row["run"]).name, row["step"], row["seed"]) for row in found["policies"]]
    expected = [("td3", step, seed) for step in (10, 20) for seed in (0, 1)]
    assert names == [*expected, ("bc", 10, 0), ("bc", 20, 0)]
    assert all(set(row["scores"]) == set(SCORES) for row in found["policies"])
    without = [row["scores"]["td_error"] is None for row in found["policies"]]
    assert without == [False] * 4 + [True] * 2  # cloning has no critic
    for name in ("td3", "bc"):
        lines = map(json.loads, (folder / name / "evaluations.jsonl").read_text().splitlines())
        returns = {row["step"]: row["return"] for row in lines}
        for row in found["policies"]:
            if Path(row["run"]).name == name:
                assert row["true_return"] == pytest.approx(returns[row["step"]][row["seed"]])


SCORES = "fqe", "initial_value", "soft_opc", "td_error"


def test_the_highest_score_is_chosen_and_no_environment_seen(folder, results):
    found = selected(folder, results, "all")
    best = max(found["policies"], key=lambda row: row["scores"]["fqe"])
    assert found["choice"] == best and found["environment_episodes_seen"] == 0
    assert results["all"]["environment_steps"] == 0
    assert "it has seen 0 environment episodes" in results["all"]["out"]
    assert f"| FQE | 6 | {found['judged']['fqe']['spearman']:.2f} |" in results["all"]["out"]
    assert found["judged"]["initial_value"]["num_policies"] == 4
    assert (folder / "all/scores.png").read_bytes().startswith(b"\x89PNG")


def test_values_of_critics_are_in_the_environments_rewards(folder, results):
    """A run learnt from 0.1 r + 1: its critic's V is 0.1 V + 1/(1 − γ), beside that of one that
    learnt from r itself; here against the rollouts' own words at the same starts."""
    found = selected(folder, results, "all")
    error = found["judged"]["initial_value"]["mean_error"]
    values = [row["scores"]["initial_value"] for row in found["policies"][:4]]
    rows = map(json.loads, (folder / "td3/evaluations.jsonl").read_text().splitlines())
    learned = np.concatenate([row["learned_value"] for row in rows])
    np.testing.assert_allclose(values, (learned - 1 / (1 - 0.99)) / 0.1, rtol=0.02)
    rows = map(json.loads, (folder / "td3/evaluations.jsonl").read_text().splitlines())
    true = np.concatenate([row["discounted_return"] for row in rows])
    assert error == pytest.approx(np.mean(values) - np.mean(true), rel=1e-5)


def test_where_most_episodes_return_the_least_only_others_succeed(folder, results):
    """Of 20 episodes one has a reward, so the quantile of the returns is 0. The run learnt from
    0.1 r + 1, so its Q is ten times smaller."""
    found = selected(folder, results, "sparse")
    q = np.array(results["sparse"]["q"]) / 0.1
    scores = [row["scores"]["soft_opc"] for row in found["policies"]]
    np.testing.assert_allclose(scores, q[:, 3:6].mean(1) - q.mean(1), rtol=1e-3)


def test_targets_are_bounded_by_the_rewards_of_all_data(results):
    assert results["a sample"]["code"] == 0, results["a sample"]["err"]
    assert results["a sample"]["num_transitions"] == 2
    assert results["a sample"]["reward_range"] == [-2.0, 3.0]


def test_what_choosing_online_would_take_is_told(folder, results):
    found = selected(folder, results, "all")["online_instead"]
    assert [row["episodes"] for row in found["ucb"]] == [6, 12, 30, 60]
    tried = found["expected_online_performance"]
    assert [(row["policies"], row["episodes"]) for row in tried] == [
        (1, 3),
        (2, 6),
        (4, 12),
        (6, 18),
    ]
    true = [row["true_return"] for row in selected(folder, results, "all")["policies"]]
    assert tried[0]["expected_return"] == pytest.approx(np.mean(true))
    # No policy is tried twice: of two the better, and who tries all has the best.
    pairs = [max(pair) for pair in itertools.combinations(true, 2)]
    assert tried[1]["expected_return"] == pytest.approx(np.mean(pairs))
    assert tried[-1]["expected_return"] == pytest.approx(max(true))


def test_the_newest_checkpoints_are_taken_by_default(folder, results):
    found = selected(folder, results, "last")
    assert [row["step"] for row in found["policies"]] == [20] * 3
    assert [row["true_return"] is None for row in found["policies"]] == [False, False, True]
    assert list(found["policies"][0]["scores"]) == ["td_error"]
    assert found["online_instead"] == {}


def test_returns_that_were_not_finite_are_unknown(folder, results):
    found = selected(folder, results, "not finite")
    assert [row["true_return"] is None for row in found["policies"]] == [False, False, True]
    assert found["online_instead"] == {}


def test_online_the_budget_is_kept_and_told(folder, results):
    found = selected(folder, results, "online")
    played = [row["online"]["episodes"] for row in found["policies"]]
    assert sum(played) == found["environment_episodes_seen"] == 7 and min(played) >= 1
    assert 7 * 2 <= results["online"]["environment_steps"] <= 7 * 4  # of 2 to 4 steps each
    best = max(found["policies"], key=lambda row: row["online"]["mean_return"])
    assert found["choice"] == best
    assert "it has seen 7 environment episodes" in results["online"]["out"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no run", "no run is given"),
        ("discount", "--fqe_discount=nan is outside [0, 0.9999]"),
        ("quantile", "success_quantile=nan is outside [0, 1]"),
        ("nowhere", "holds no run that this version can read"),
        ("no budget", "by=online needs --num_online_episodes=…, and no other choice takes it"),
        ("small budget", "--num_online_episodes=2 is less than one for each of 3 policies"),
        ("budget offline", "by=online needs --num_online_episodes=…, and no other choice takes it"),
        ("no such score", "there is no score 'opera'"),
        ("other data", "learnt from different data"),
        ("env_id", "(env_id OffrlToy-v0 and Else-v0)"),
        ("env_kwargs", "(env_kwargs {} and {'goal': 1})"),
        ("max_episode_steps", "(max_episode_steps None and 7)"),
        ("moved data", "give the data of the runs as "),
        ("no values", "needs value from the runs' own critics, and bc has none"),
        ("no critic", "needs q_values from the runs' own critics, and bc has none"),
        ("all alike", "no policy has a score by soft_opc"),
        ("no room", "the selection cannot be written"),
        ("no figure", "the selection cannot be written"),
        ("a file", "cannot be made"),
    ],
)
def test_bad_input_gets_one_line(results, name, words):
    done = results[name]
    assert done["code"] == 2, (done["code"], done["err"])
    assert done["err"].count("\n") == 1 and done["err"].startswith("error: "), done["err"]
    assert words in done["err"]


def test_runs_in_different_environments_are_named(folder, results):
    assert f"{folder}/bc and {folder}/env_id are of different" in results["env_id"]["err"]


def test_a_score_that_no_run_has_is_refused_before_anything_is_computed(folder, results):
    """The folder of the results is made just before that."""
    assert not (folder / "no values").exists() and not (folder / "no critic").exists()
