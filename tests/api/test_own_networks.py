"""A user's networks, losses, encoders and batches: what one cell of a notebook changes."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import offrl_jax as orl
from offrl_jax.algorithms import cql
from offrl_jax.algorithms.base import Batch
from offrl_jax.networks.modules import MLP, Encoded
from offrl_jax.runs.policy import load_policy
from offrl_jax.testing import check_algorithm, random_dataset, small_config
from offrl_jax.types import Transition

SHORT = {"preset": "none", "num_steps": 4, "num_evaluations": 1, "num_evaluation_episodes": 0}
SHORT |= {"progress": False}
OBSERVATION = np.linspace(-1, 1, 5).astype(np.float32)


class Residual(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        return x + nn.relu(nn.Dense(self.width)(x))


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, observation):
        return nn.tanh(nn.Dense(6, name="only")(observation))


@pytest.mark.parametrize("algorithm", ["cql", "iql"])
def test_a_residual_critic_is_trained_saved_and_loaded(algorithm, tmp_path):
    config = {"critic_network": Residual(8), "actor_network": (8,), "batch_size": 8}
    run = orl.train(algorithm, random_dataset(), config=config, run_dir=tmp_path / "run", **SHORT)
    again = orl.load_run(tmp_path / "run", networks={"Residual": Residual})
    assert again.config == run.config and again.config.critic_network == Residual(8)
    jax.tree.map(np.testing.assert_array_equal, again.state, run.state)
    np.testing.assert_array_equal(again.policy()(OBSERVATION), run.policy()(OBSERVATION))
    policy = load_policy(tmp_path / "run", networks={"Residual": Residual})
    np.testing.assert_array_equal(policy(OBSERVATION), run.policy()(OBSERVATION))
    for load in (orl.load_run, load_policy):
        with pytest.raises(orl.InputError, match="give its class as `networks="):
            load(tmp_path / "run")
    resumed = orl.train(
        algorithm, random_dataset(), config=config, run_dir=tmp_path / "run", **SHORT
    )
    assert resumed.step == 4 and resumed.config == run.config


def test_networks_are_swept(tmp_path):
    grid = {
        "network": [(8,), Residual(4), MLP((8,), layer_norm=True)],
        "learning_rate": [1e-3, 1e-4],
    }
    found = orl.sweep(
        "bc", random_dataset(), grid=grid, config={"batch_size": 8}, sweep_dir=tmp_path, **SHORT
    )
    name = "arrays,learning_rate=0.001,network=Residual(width=4)"
    assert found.runs[name].config.network == Residual(4)
    assert "MLP(hidden_sizes=(8,),layer_norm=True)" in repr(found) and len(found.runs) == 6
    assert (tmp_path / "runs" / name / "DONE").exists()


def test_two_classes_of_one_name_cannot_be_swept():
    other = type("Residual", (Residual,), {})
    grid = {"network": [Residual(4), other(5)]}
    with pytest.raises(orl.InputError, match="two network classes named Residual"):
        orl.sweep("bc", random_dataset(), grid=grid, config={"batch_size": 8}, **SHORT)


def test_a_changed_algorithm_is_saved_under_a_name_of_its_own(tmp_path):
    bc = orl.ALGORITHMS["bc"]

    def update(config, state, batch, key):
        return bc.update(config, state, batch, key)

    mine, config = bc._replace(update=update), {"network": (8,), "batch_size": 8}
    run = orl.train(mine, random_dataset(), config=config, **SHORT)
    sentence = "the algorithm differs from the library's bc but has its name"
    with pytest.raises(orl.InputError, match=sentence):
        run.save(tmp_path / "run")
    with pytest.raises(orl.InputError, match=sentence):
        orl.train(mine, random_dataset(), config=config, run_dir=tmp_path / "run", **SHORT)
    assert not list(tmp_path.iterdir())
    named = mine._replace(name="mine")
    run = orl.train(named, random_dataset(), config=config, run_dir=tmp_path / "run", **SHORT)
    assert orl.load_run(run.path, algorithm=named).algorithm is named


def test_a_class_that_is_not_the_one_that_was_trained_is_told(tmp_path):
    class Other(nn.Module):
        width: int = 8

        @nn.compact
        def __call__(self, x):
            raise RuntimeError("of another kind")

    config = {"network": Residual(8), "batch_size": 8}
    orl.train("bc", random_dataset(), config=config, run_dir=tmp_path / "run", **SHORT)
    with pytest.raises(orl.InputError, match=r"settings with which bc cannot start .*another kind"):
        orl.load_run(tmp_path / "run", networks={"Residual": Other})


def test_a_changed_penalty_is_a_function():
    def penalty(config, q, q_data, context):
        return jnp.mean(jnp.max(q, axis=-1) - q_data, axis=1)

    def update(config, state, batch, key):
        return cql.update(config, state, batch, key, penalty=penalty)

    mine = cql.cql._replace(name="mine", update=update)
    config = {"critic_network": (8,), "actor_network": (8,), "batch_size": 8}
    run, other = (
        orl.train(algorithm, random_dataset(), config=config, **SHORT)
        for algorithm in (mine, "cql")
    )
    logged = [r.metrics["critic/penalty"] for r in (run, other)]
    assert np.isfinite(logged).all() and logged[0] != logged[1]
    check_algorithm(mine, small_config(mine, num_sampled_actions=2))


def test_a_toy_encoder_in_front_of_every_network():
    networks = ("actor_network", "value_network", "critic_network")
    config = {name: Encoded(Encoder(), MLP((8,))) for name in networks} | {"batch_size": 8}
    run = orl.train("iql", random_dataset(), config=config, **SHORT)
    critic = jax.tree.map(jnp.shape, run.state.critic.params)
    assert critic["encoder"]["network"]["only"]["kernel"] == (1, 5, 6)  # a seed, not a critic
    assert critic["members"]["network"]["Dense_0"]["kernel"] == (1, 2, 9, 8)
    for leaf in jax.tree.leaves(jax.tree.map(np.ptp, run.state.target_critic["encoder"])):
        assert leaf > 0


class Goals(NamedTuple):
    """Transitions with a later state of the same episode as a goal."""

    transition: Transition
    goal: jax.Array


def with_goals():
    """BC that learns of the goal alone, in the place of the observation."""
    bc = orl.ALGORITHMS["bc"]

    def index(config, key, episode):
        row_key, goal_key = jax.random.split(key)
        row = jax.random.randint(row_key, (config.batch_size,), 0, len(episode))
        last = jnp.searchsorted(episode, episode[row], side="right") - 1
        return {"row": row, "goal": jax.random.randint(goal_key, row.shape, row, last + 1)}

    def make(config, index, transitions):
        del config, index
        return Goals(transitions["row"], transitions["goal"].observation)

    def update(config, state, batch, key):
        rows = batch.transition._replace(observation=batch.goal)
        state, metrics = bc.update(config, state, rows, key)
        gap = jnp.mean(jnp.square(batch.goal - batch.transition.observation))
        return state, metrics | {"goal/gap": gap}

    return bc._replace(name="goals", update=update, batch=Batch(index, make))


def test_an_algorithm_samples_batches_of_its_own():
    algorithm = with_goals()
    check_algorithm(algorithm)
    config = small_config(algorithm, batch_size=512)
    batch = algorithm.batch.sample(config, random_dataset(), jax.random.key(0))
    dataset = random_dataset()
    rows = {tuple(row): i for i, row in enumerate(np.asarray(dataset.transitions.observation))}
    found = [
        [rows[tuple(row)] for row in np.asarray(x)]
        for x in (batch.transition.observation, batch.goal)
    ]
    start, goal = map(np.array, found)
    assert (goal >= start).all() and (goal // 20 == start // 20).all() and (goal > start).any()
    run = orl.train(algorithm, dataset, config={"batch_size": 8, "network": (8,)}, **SHORT)
    assert run.metrics["goal/gap"] > 0


def test_data_in_host_memory_give_transitions_alone(tmp_path):
    folder = orl.data.shard(random_dataset(), tmp_path / "noise.shards", rows_per_shard=70)
    dataset = orl.data.load_dataset(folder, placement="host")
    with pytest.raises(orl.InputError, match="goals samples its own batches"):
        orl.train(with_goals(), dataset, **SHORT)
