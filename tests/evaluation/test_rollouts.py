import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import init, stack
from offrl_jax.data import normalize_observations, transform_rewards
from offrl_jax.evaluation import rollouts as rollouts_module
from offrl_jax.evaluation.rollouts import Evaluator, summarize, to_environment
from offrl_jax.types import InputError
from tests.toy import RuleConfig, Toy, rule, toy_dataset

NUM_EPISODES = 4
LENGTHS = [2, 3, 4, 2]  # seeds 0 to 3


def rolled(dataset, config=RuleConfig(), runs=(2,), **options):  # noqa: B008
    state = init(rule, config, dataset.spec, jax.random.split(jax.random.key(0), runs))
    return Evaluator(rule, dataset, runs, NUM_EPISODES, **options)(config, state)


def test_returns_lengths_and_discounting():
    rollouts = rolled(toy_dataset())
    assert rollouts.length.tolist() == [LENGTHS] * 2
    first_action = 0.5 * 2.0  # of [−2, 2]
    np.testing.assert_allclose(rollouts.episode_return, [[n * first_action for n in LENGTHS]] * 2)
    discounted = [sum(0.99**t for t in range(n)) * first_action for n in LENGTHS]
    np.testing.assert_allclose(rollouts.discounted_return, [discounted] * 2, rtol=1e-6)


def test_success_at_any_step_counts():
    assert rolled(toy_dataset()).success.tolist() == [[0, 1, 1, 1]] * 2


def test_an_ended_episode_is_not_stepped_again():
    Toy.steps = 0
    rolled(toy_dataset())  # the environment asserts it too
    assert Toy.steps == 2 * sum(LENGTHS)


def test_the_first_seed_moves_the_starts():
    assert rolled(toy_dataset(), seed=1).length.tolist() == [[3, 4, 2, 3]] * 2


def test_actions_are_drawn_anew_at_every_step_if_asked_for():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))

    def act(config, state, observation, key):
        drawn = jnp.zeros(len(observation)) if key is None else jax.random.uniform(key, (3,))
        return jnp.stack([drawn, jnp.zeros(len(observation))], axis=1)

    drawing = rule._replace(act=act)
    modes = Evaluator(drawing, dataset, (2,), 3)(RuleConfig(), state).episode_return
    np.testing.assert_array_equal(modes, np.zeros((2, 3)))
    evaluator = Evaluator(drawing, dataset, (2,), 3, sampled=True)
    drawn = evaluator(RuleConfig(), state)
    assert len(np.unique(drawn.episode_return)) == 6
    once = np.array([np.mean(0.99 ** np.arange(n)) for n in (2, 3, 4)])
    assert (abs(drawn.discounted_return / drawn.episode_return - once) > 1e-5).all()
    again = evaluator(RuleConfig(), state)
    np.testing.assert_array_equal(drawn.episode_return, again.episode_return)
    later = evaluator(RuleConfig(), state, later=3)  # of as many steps
    assert (drawn.episode_return != later.episode_return).all()
    alone = Evaluator(drawing, dataset, (), 3, sampled=True)
    assert alone(RuleConfig(), jax.tree.map(lambda x: x[0], state)).length.shape == (3,)


def test_an_algorithm_that_samples_is_evaluated_by_draws():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))

    def act(config, state, observation, key):
        first = jnp.zeros(len(observation)) if key is None else jax.random.uniform(key, (3,))
        return jnp.stack([first, jnp.zeros(len(observation))], axis=1)

    found = {}
    for samples in (False, True):
        algorithm = rule._replace(act=act, samples=samples)
        found[samples] = Evaluator(algorithm, dataset, (2,), 3)(RuleConfig(), state)
    assert (found[False].episode_return == 0).all() and (found[True].episode_return > 0).all()
    modes = Evaluator(algorithm, dataset, (2,), 3, sampled=False)(RuleConfig(), state)
    assert (modes.episode_return == 0).all()


def test_chunks_are_played_to_their_end():
    """Each chunk pays by the time at which it was chosen: 0 0 2 2 of four steps, not 0 1 2 3."""
    dataset = toy_dataset()

    def chunk(config, state, observation, key):
        first = jnp.repeat(0.1 * observation[:, 1:], 2, axis=1)
        return jnp.stack([first, jnp.zeros_like(first)], axis=-1)

    chunked = rule._replace(chunk=chunk)
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    rollouts = Evaluator(chunked, dataset, (2,), NUM_EPISODES)(RuleConfig(), state)
    assert rollouts.length.tolist() == [LENGTHS] * 2
    paid = [2 * 0.1 * sum(t - t % 2 for t in range(n)) for n in LENGTHS]
    np.testing.assert_allclose(rollouts.episode_return, [paid] * 2, rtol=1e-5)


def test_value_error_is_in_the_learners_rewards():
    rollouts = rolled(transform_rewards(toy_dataset(), scale=10.0, bias=-1.0))
    learner = [sum(0.99**t for t in range(n)) * (10.0 * 1.0 - 1.0) for n in LENGTHS]
    np.testing.assert_allclose(rollouts.learned_value, np.full((2, 4), 100.0))
    np.testing.assert_allclose(rollouts.actual_value, [learner] * 2, rtol=1e-5)
    np.testing.assert_allclose(rollouts.value_error, [[100.0 - r for r in learner]] * 2, rtol=1e-5)
    np.testing.assert_allclose(rollouts.episode_return[0], LENGTHS, rtol=1e-6)  # raw all the same


def test_without_a_critic_there_is_no_value_error():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    evaluator = Evaluator(rule._replace(value=None), dataset, (2,), 2)
    assert np.isnan(evaluator(RuleConfig(), state).value_error).all()


def test_settings_and_seeds_are_evaluated_together():
    config = stack([RuleConfig(gain=0.5), RuleConfig(gain=-0.5)])
    rollouts = rolled(toy_dataset(), config, runs=(2, 3))
    assert rollouts.episode_return.shape == (2, 3, NUM_EPISODES)
    np.testing.assert_allclose(rollouts.episode_return[0], -rollouts.episode_return[1])


def test_runs_take_turns_where_there_would_be_too_many_environments(monkeypatch):
    config = stack([RuleConfig(gain=0.1 * i) for i in range(5)])
    options = {"runs": (5,)}
    at_once = rolled(toy_dataset(), config, **options)
    assert len(np.unique(at_once.episode_return[:, 0])) == 5
    monkeypatch.setattr(rollouts_module, "MOST_ENVIRONMENTS", 2 * NUM_EPISODES)
    made, Toy.steps = [], 0
    make = rollouts_module.environments.make_from_spec
    monkeypatch.setattr(
        rollouts_module.environments, "make_from_spec", lambda *own: made.append(1) or make(*own)
    )
    in_turns = rolled(toy_dataset(), config, **options)
    for field in dataclasses.fields(at_once):
        np.testing.assert_allclose(
            getattr(in_turns, field.name), getattr(at_once, field.name), rtol=1e-6
        )
    assert len(made) == 2 * NUM_EPISODES and Toy.steps == 5 * sum(LENGTHS)


def test_lost_runs_are_not_played_in_turns_either(monkeypatch):
    monkeypatch.setattr(rollouts_module, "MOST_ENVIRONMENTS", 2 * NUM_EPISODES)
    dataset, config = toy_dataset(), RuleConfig()
    state = init(rule, config, dataset.spec, jax.random.split(jax.random.key(0), 3))
    evaluator = Evaluator(rule, dataset, (3,), NUM_EPISODES)
    Toy.steps = 0
    rollouts = evaluator(config, state, is_lost=np.array([False, True, False]))
    assert np.isnan(rollouts.episode_return).all(1).tolist() == [False, True, False]
    assert Toy.steps == 2 * sum(LENGTHS)


def test_an_index_picks_a_setting():
    config = stack([RuleConfig(gain=0.5), RuleConfig(gain=-0.5)])
    rollouts = rolled(toy_dataset(), config, runs=(2, 3))
    for h, gain in enumerate((0.5, -0.5)):
        alone = rolled(toy_dataset(), RuleConfig(gain=gain), runs=(3,))
        for field in dataclasses.fields(alone):
            np.testing.assert_allclose(
                getattr(rollouts[h], field.name), getattr(alone, field.name), rtol=1e-6
            )
        np.testing.assert_allclose(rollouts[h].value_error, alone.value_error, rtol=1e-6)


def test_the_learned_value_is_asked_at_the_first_state():
    dataset = toy_dataset()
    algorithm = rule._replace(value=lambda config, state, o: 10 * o[:, 0] + o[:, 1])
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    rollouts = Evaluator(algorithm, dataset, (2,), NUM_EPISODES)(RuleConfig(), state)
    np.testing.assert_allclose(rollouts.learned_value, [[0, 10, 20, 30]] * 2)


def test_policies_see_normalised_observations():
    dataset = normalize_observations(toy_dataset())
    seen = []

    def act(config, state, observation, key):
        jax.debug.callback(lambda o: seen.append(np.asarray(o)), observation)
        return jnp.zeros((observation.shape[0], 2))

    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 1))
    Evaluator(rule._replace(act=act), dataset, (1,), 2)(RuleConfig(), state)
    jax.effects_barrier()
    mean, std = map(np.asarray, dataset.preprocessing[:2])
    start = (np.array([[0.0, 0.0], [1.0, 0.0]]) - mean) / std
    np.testing.assert_allclose(np.squeeze(seen[0]), start, rtol=1e-5)


def test_the_policy_compiles_once_for_all_steps_and_evaluations():
    traces = []

    def act(config, state, observation, key):
        traces.append(1)
        return rule.act(config, state, observation, key)

    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    evaluator = Evaluator(rule._replace(act=act), dataset, (2,), NUM_EPISODES)
    evaluator(RuleConfig(), state)
    evaluator(RuleConfig(gain=0.1), state)
    assert len(traces) == 1


def test_actions_reach_the_environments_bounds():
    spec = toy_dataset().spec
    actions = to_environment(np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]), spec)
    np.testing.assert_allclose(actions, [[-2, 0], [0, 5], [2, 10]])


def test_environment_and_data_must_agree():
    with pytest.raises(InputError, match=r"observations of dataset toy have 2 numbers but .* 11"):
        Evaluator(rule, toy_dataset(env_id="Hopper-v5"), (1,), 1)
    with pytest.raises(InputError, match="did you mean Hopper-v5"):
        Evaluator(rule, toy_dataset(env_id="Hoper-v5"), (1,), 1)
    with pytest.raises(InputError, match="are continuous but those of CartPole-v1 discrete"):
        Evaluator(rule, toy_dataset(env_id="CartPole-v1"), (1,), 1)
    with pytest.raises(InputError, match="are one Box"):
        Evaluator(rule, toy_dataset(observation_keys=("observation",)), (1,), 1)
    with pytest.raises(InputError, match="names no environment"):
        Evaluator(rule, toy_dataset(env_id=None), (1,), 1)


def test_lost_runs_are_not_played_and_change_no_other():
    dataset = toy_dataset()
    config = RuleConfig()
    state = init(rule, config, dataset.spec, jax.random.split(jax.random.key(0), 3))
    evaluator = Evaluator(rule, dataset, (3,), NUM_EPISODES)
    all_played = evaluator(config, state)
    Toy.steps = 0
    rollouts = evaluator(config, state, is_lost=np.array([False, True, False]))
    assert Toy.steps == 2 * sum(LENGTHS)
    for field in dataclasses.fields(rollouts):
        some, every = (getattr(r, field.name) for r in (rollouts, all_played))
        assert np.isnan(some[1]).all() and not np.isnan(every[1]).any(), field.name
        np.testing.assert_array_equal(some[[0, 2]], every[[0, 2]])


def test_a_lost_run_is_null_in_its_row():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    evaluator = Evaluator(rule, dataset, (2,), 2)
    row = summarize(evaluator(RuleConfig(), state, is_lost=np.array([True, False])), dataset.spec)
    for name, (lost, living) in row.items():
        assert np.isnan(lost).all() and not np.isnan(living).any(), name


def test_every_start_and_step_of_an_environment_is_a_sign_of_life():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 2))
    evaluator = Evaluator(rule, dataset, (2,), NUM_EPISODES)
    ticks = []
    evaluator(RuleConfig(), state, tick=lambda: ticks.append(1))
    made = 2 * NUM_EPISODES - 1  # the first one already
    assert len(ticks) == made + 2 * NUM_EPISODES + 2 * sum(LENGTHS) + max(LENGTHS)  # actions too


def test_what_a_sign_of_life_raises_ends_the_rollouts():
    dataset = toy_dataset()
    state = init(rule, RuleConfig(), dataset.spec, jax.random.split(jax.random.key(0), 1))
    evaluator = Evaluator(rule, dataset, (1,), NUM_EPISODES)
    evaluator(RuleConfig(), state)
    ticks = iter(range(NUM_EPISODES + 3))  # the first actions are chosen in between
    Toy.steps = 0
    with pytest.raises(StopIteration):
        evaluator(RuleConfig(), state, tick=lambda: next(ticks))
    assert Toy.steps == 2
