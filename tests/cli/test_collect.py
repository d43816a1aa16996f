"""`offrl collect`: transitions of random actions and of trained policies, as files."""

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.runs.policy import load_policy
from tests import commands
from tests.policies import saved

LIMIT = 30  # steps of the policies' task


def made(env_id, observation_size, **fields):
    rng = np.random.default_rng(0)
    n = 20
    action = rng.integers(2, size=n) if "num_actions" in fields else rng.uniform(-1, 1, (n, 1))
    rows = rng.normal(size=(n, observation_size)), action, np.ones(n), np.arange(n) % 5 == 4
    return data.dataset_from_arrays(*rows, env_id=env_id, **fields)


BAD = {
    "no output": (["--env_id=CartPole-v1"], "no --output=… is given"),
    "no npz": (["--env_id=CartPole-v1", "--output={folder}/new.hdf5"], "ends in .npz"),
    "output exists": (["--env_id=CartPole-v1", "--output={folder}/random.npz"], "exists already"),
    "no folder": (["--env_id=CartPole-v1", "--output={folder}/no/new.npz"], "has no folder"),
    "no environment": (["--output={folder}/new.npz"], "give --env_id=… or runs"),
    "typo": (["--env_id=CartPol-v1", "--output={folder}/new.npz"], "did you mean CartPole-v1?"),
    "no transitions": (["--num_transitions=0", "--output={folder}/new.npz"], "num_transitions"),
    "too many": (
        ["--env_id=CartPole-v1", f"--num_transitions={10**16}", "--output={folder}/new.npz"],
        "more than memory holds",
    ),
    "no run": (["{folder}/none", "--output={folder}/new.npz"], "holds no policy"),
    "no such seed": (
        ["{folder}/dqn", "--seed_index=3", "--output={folder}/new.npz"],
        "has seeds 0 to 2",
    ),
    "two tasks": (
        ["{folder}/dqn", "{folder}/bc", "--output={folder}/new.npz"],
        "has another task than",
    ),
    "elsewhere": (
        ["{folder}/dqn", "--env_id=Acrobot-v1", "--output={folder}/new.npz"],
        "but those of Acrobot-v1 have",
    ),
    "keys of a policy": (
        ["{folder}/dqn", "--observation_keys=a", "--output={folder}/new.npz"],
        "leave --observation_keys out",
    ),
    "no keys": (["--env_id=PointMaze_UMaze-v3", "--output={folder}/new.npz"], "observation_keys"),
    "counts observed": (["--env_id=FrozenLake-v1", "--output={folder}/new.npz"], "single array"),
    "extends nothing": (
        ["--env_id=CartPole-v1", "--extend={folder}/no.npz", "--output={folder}/new.npz"],
        "is not a recording of this command",
    ),
    "extends another": (
        ["--env_id=Acrobot-v1", "--extend={folder}/random.npz", "--output={folder}/new.npz"],
        "record them separately",
    ),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of the files, and what the command answers case by case."""
    folder = tmp_path_factory.mktemp("collected")
    saved(folder / "dqn", made("CartPole-v1", 4, num_actions=2, max_episode_steps=LIMIT), "dqn")
    saved(folder / "bc", made("Pendulum-v1", 3, action_low=-2.0, action_high=2.0), "bc")
    cases = {
        "random": ["--env_id=CartPole-v1", "--num_transitions=500"],
        "again": ["--env_id=CartPole-v1", "--num_transitions=500"],
        "other seed": ["--env_id=CartPole-v1", "--num_transitions=500", "--seed=1"],
        "policy": ["{folder}/dqn", "--num_transitions=200", "--seed_index=1"],
        "turns": ["{folder}/dqn", "--num_transitions=200", "--random"],
        "epsilon": ["{folder}/dqn", "--num_transitions=2000", "--epsilon=0.3"],
        "all random": ["{folder}/dqn", "--num_transitions=200", "--epsilon=1"],
        "longer": [
            *("{folder}/dqn", "--num_transitions=50", "--extend={folder}/policy.npz"),
        ],
        "continuous": ["--env_id=Pendulum-v1", "--num_transitions=450"],
        "a policy's": ["{folder}/bc", "--num_transitions=30"],
        "maze": [
            *("--env_id=PointMaze_UMaze-v3", "--num_transitions=20"),
            "--observation_keys=observation,desired_goal",
        ],
    }
    cases = {name: [*words, f"--output={{folder}}/{name}.npz"] for name, words in cases.items()}
    cases |= {name: words for name, (words, _) in BAD.items()}
    cases = {name: [word.format(folder=folder) for word in cases[name]] for name in cases}
    return folder, commands.run_apart("collect", cases)


@pytest.fixture
def recorded(done, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))

    def columns(name):
        assert done[1][name]["code"] == 0, done[1][name]
        with np.load(done[0] / f"{name}.npz") as file:
            return dict(file)

    return columns


def test_random_actions_are_recorded_in_d4rls_layout(done, recorded):
    columns = recorded("random")
    dataset = data.load_dataset(done[0] / "random.npz")
    assert len(dataset) == 500 and dataset.spec.env_id == "CartPole-v1"
    assert dataset.spec.discrete and dataset.spec.action_size == columns["num_actions"] == 2
    assert abs(columns["actions"].mean() - 0.5) < 4 * 0.5 / np.sqrt(500)
    within = ~(columns["terminals"] | columns["timeouts"])[:-1]
    following = columns["observations"][1:], columns["next_observations"][:-1]
    np.testing.assert_array_equal(*(rows[within] for rows in following))
    returns = data.episode_returns(dataset)
    assert f"in {len(returns)} episodes" in done[1]["random"]["out"]
    assert f"mean return {returns[:-1].mean():.4g} of those that ended" in done[1]["random"]["out"]


def test_the_seed_decides_all_numbers(recorded):
    first, again, other = (recorded(name) for name in ("random", "again", "other seed"))
    for name, column in first.items():
        np.testing.assert_array_equal(column, again[name])
    assert not np.array_equal(first["observations"], other["observations"])


def test_a_policy_acts_as_when_loaded_and_within_its_tasks_time_limit(done, recorded):
    columns = recorded("policy")
    expected = load_policy(done[0] / "dqn", 1)(columns["observations"])
    np.testing.assert_array_equal(columns["actions"], expected)
    dataset = data.load_dataset(done[0] / "policy.npz")
    assert dataset.spec.max_episode_steps == LIMIT
    assert np.bincount(dataset.episode).max() <= LIMIT


def test_random_actions_take_turns_with_the_policy(done, recorded):
    columns = recorded("turns")
    agrees = load_policy(done[0] / "dqn")(columns["observations"]) == columns["actions"]
    episode = np.asarray(data.load_dataset(done[0] / "turns.npz").episode)
    assert agrees[episode % 2 == 1].all() and not agrees[episode % 2 == 0].all()


@pytest.mark.parametrize(("name", "epsilon"), [("epsilon", 0.3), ("all random", 1.0)])
def test_epsilon_is_the_share_of_random_actions(done, recorded, name, epsilon):
    """Half of them are the policy's, of two."""
    columns = recorded(name)
    other = load_policy(done[0] / "dqn")(columns["observations"]) != columns["actions"]
    deviation = np.sqrt(epsilon / 2 * (1 - epsilon / 2) / len(other))
    assert abs(other.mean() - epsilon / 2) < 4 * deviation


def test_an_extended_recording_begins_with_the_other_and_joins_no_episodes(done, recorded):
    first, both = recorded("policy"), recorded("longer")
    assert len(both["rewards"]) == 250
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(both[name][:200], first[name])
    assert both["terminals"][199] or both["timeouts"][199]
    assert "250 transitions, 50 of them new" in done[1]["longer"]["out"]


def test_continuous_actions_keep_their_bounds(done, recorded):
    columns = recorded("continuous")
    assert "num_actions" not in columns and columns["actions"].shape == (450, 1)
    assert np.abs(columns["actions"]).max() <= 2 and np.abs(columns["actions"]).max() > 1.5
    np.testing.assert_array_equal(np.flatnonzero(columns["timeouts"]), [199, 399, 449])
    assert data.load_dataset(done[0] / "continuous.npz").spec.action_high == (2.0,)
    columns = recorded("a policy's")
    expected = load_policy(done[0] / "bc")(columns["observations"])
    np.testing.assert_allclose(columns["actions"], expected, atol=1e-5)


def test_entries_of_observations_are_recorded_with_their_names(done, recorded):
    recorded("maze")
    dataset = data.load_dataset(done[0] / "maze.npz")
    assert dataset.spec.observation_keys == ("observation", "desired_goal")
    goal = np.asarray(dataset.transitions.observation)[:, -2:]
    assert (goal == goal[0]).all()


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(done, name):
    folder, answers = done
    assert answers[name]["code"] == 2 and BAD[name][1] in answers[name]["err"], answers[name]
    assert answers[name]["err"].count("\n") == 1
    assert not list(folder.glob("*new*")) and not list(folder.glob(".*"))
