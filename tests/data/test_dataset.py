import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data import checks
from offrl_jax.types import InputError


def arrays(n=5, **changes):
    fields = {
        "observation": np.arange(2.0 * n).reshape(n, 2),
        "action": np.linspace(-1, 1, n)[:, None],
        "reward": np.arange(1.0, n + 1),
        "terminal": np.zeros(n, bool),
    }
    return fields | changes


def flags(*rows, n=5):
    return np.isin(np.arange(n), rows)


def test_true_end_does_not_bootstrap_and_time_out_does():
    dataset = data.dataset_from_arrays(
        **arrays(terminal=flags(1), timeout=flags(3), next_observation=np.full((5, 2), 7.0))
    )
    np.testing.assert_array_equal(dataset.transitions.terminal, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(dataset.episode, [0, 0, 1, 1, 2])


def test_terminal_wins_where_both_flags_are_set():
    dataset = data.dataset_from_arrays(**arrays(terminal=flags(4), timeout=flags(4)))
    assert dataset.transitions.terminal[-1] == 1
    assert len(dataset) == 5


def test_last_row_without_a_flag_is_a_truncation():
    stored = np.full((5, 2), 7.0)
    dataset = data.dataset_from_arrays(**arrays(next_observation=stored))
    assert dataset.transitions.terminal[-1] == 0
    assert dataset.transitions.next_action_valid[-1] == 0
    assert len(data.dataset_from_arrays(**arrays())) == 4  # nothing known to bootstrap from


def test_cut_uses_the_stored_next_observation():
    stored = np.arange(10.0).reshape(5, 2) + 100
    dataset = data.dataset_from_arrays(**arrays(timeout=flags(2), next_observation=stored))
    np.testing.assert_array_equal(dataset.transitions.next_observation, stored)


def test_cut_without_next_observation_is_dropped_and_a_true_end_kept():
    dataset = data.dataset_from_arrays(**arrays(terminal=flags(4), timeout=flags(2)))
    np.testing.assert_array_equal(dataset.transitions.reward, [1, 2, 4, 5])
    np.testing.assert_array_equal(dataset.transitions.next_observation[:2], [[2, 3], [4, 5]])
    np.testing.assert_array_equal(dataset.episode, [0, 0, 1, 1])


def test_nothing_crosses_an_episode_boundary():
    dataset = data.dataset_from_arrays(
        **arrays(terminal=flags(1, 4), next_observation=np.zeros((5, 2))), discount=0.5
    )
    rows = dataset.transitions
    np.testing.assert_array_equal(rows.next_action_valid, [1, 0, 1, 1, 0])
    np.testing.assert_allclose(
        rows.next_action[jnp.array([0, 2, 3])], rows.action[jnp.array([1, 3, 4])]
    )
    np.testing.assert_allclose(rows.return_to_go, [2, 2, 3 + 2 + 1.25, 4 + 2.5, 5])


def test_actions_are_rescaled_and_come_back():
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
    action = np.array([[-2, 0], [2, 10], [0, 5], [1, 2.5], [0.5, 1]])
    dataset = data.dataset_from_arrays(**arrays(action=action), action_low=low, action_high=high)
    np.testing.assert_allclose(
        dataset.transitions.action, [[-1, -1], [1, 1], [0, 0], [0.5, -0.5]], atol=1e-6
    )
    spec = dataset.spec
    spread = np.subtract(spec.action_high, spec.action_low)
    back = spec.action_low + (np.asarray(dataset.transitions.action) + 1) / 2 * spread
    np.testing.assert_allclose(back, action[:4], atol=1e-6)


def test_actions_outside_their_bounds_are_refused():
    with pytest.raises(InputError, match=r"leaves its bounds in 1 of 5 .* 4 .*clip_actions=True"):
        data.dataset_from_arrays(**arrays(action=np.array([[0], [0], [0], [0], [1.5]])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": np.ones(4)}, "4 rows of reward but 5 of observation"),
        ({"action": np.zeros((6, 1))}, "6 rows of action"),
        ({"timeout": np.zeros(3)}, "3 rows of timeout"),
        ({"reward": np.array([1, 2, np.nan, 4, 5])}, "reward .* not finite .* transition 2"),
        ({"reward": np.array([1, 2, 3, 1e300, 5])}, "reward .* not finite .* transition 3"),
        ({"observation": np.full((5, 2), np.inf)}, "observation .* not finite in 5 of 5"),
        ({"observation": np.zeros(5)}, r"shape \(5,\)"),
        ({"observation": np.zeros((5, 0))}, r"shape \(5, 0\)"),
        ({"observation": np.array([[1], [1, 2]], object)}, "only numbers"),
        ({"reward": np.array(["a"] * 5)}, "only numbers"),
        ({"terminal": np.array([0, 1, 2, 0, 0])}, "other than 0 and 1"),
        ({"next_observation": np.zeros((5, 3))}, "width 3 but observation of width 2"),
        ({"action_low": np.array(["left"])}, "bounds .* are no numbers"),
        ({"action_low": 1.0}, "low below high"),
        ({"action_high": np.inf}, "must be finite"),
        ({"action_low": -3e38, "action_high": 3e38}, "must be finite"),
        ({"action_high": np.ones(3)}, "give numbers, or 1 of them"),
        ({"discount": 1.5}, "discount is 1.5"),
    ],
)
def test_unusable_arrays_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        data.dataset_from_arrays(**arrays(**changes))


def test_ragged_rows_are_no_array():
    with pytest.raises(InputError, match="observation of dataset d is no array"):
        checks.numbers("d", "observation", [[1.0, 2.0], [1.0]], 2)


def test_empty_arrays_are_refused():
    with pytest.raises(InputError, match="empty"):
        data.dataset_from_arrays(**arrays(n=0))


def test_a_column_of_rewards_is_a_row():
    reward = np.arange(1.0, 6.0)[:, None]
    np.testing.assert_array_equal(
        data.dataset_from_arrays(**arrays(reward=reward)).transitions.reward, [1, 2, 3, 4]
    )


def test_the_users_arrays_are_copied():
    given = {
        k: np.array(v, np.float32) for k, v in arrays(next_observation=np.zeros((5, 2))).items()
    }
    kept = {k: v.copy() for k, v in given.items()}
    dataset = data.dataset_from_arrays(**given)
    for field, before in kept.items():
        np.testing.assert_array_equal(given[field], before)
        given[field][:] = 99
        np.testing.assert_array_equal(getattr(dataset.transitions, field), before)


def test_fingerprint_follows_the_numbers_alone():
    fields = arrays(next_observation=np.zeros((5, 2)))
    first = data.dataset_from_arrays(**fields, name="a").spec.fingerprint
    assert first == data.dataset_from_arrays(**fields, name="b", discount=0.5).spec.fingerprint
    changed = fields | {"reward": fields["reward"] + 1e-6 * flags(3)}
    assert first != data.dataset_from_arrays(**changed).spec.fingerprint
    normalized = data.normalize_observations(data.dataset_from_arrays(**fields))
    assert normalized.spec.fingerprint == first


def test_sample_stays_in_bounds_and_reaches_every_row():
    dataset = data.dataset_from_arrays(**arrays(next_observation=np.zeros((5, 2))))
    batch = jax.jit(data.sample, static_argnums=2)(dataset, jax.random.key(0), 500)
    assert batch.observation.shape == (500, 2)
    assert set(np.asarray(batch.reward)) == {1, 2, 3, 4, 5}
    again = data.sample(dataset, jax.random.key(0), 500)
    np.testing.assert_array_equal(batch.reward, again.reward)


def test_rows_of_a_sample_belong_together():
    dataset = data.dataset_from_arrays(**arrays(next_observation=np.zeros((5, 2))))
    batch = data.sample(dataset, jax.random.key(1), 100)
    np.testing.assert_array_equal(batch.observation[:, 0], 2 * (batch.reward - 1))


def test_normalization_standardises_and_is_the_policys_too():
    fields = arrays(next_observation=np.ones((5, 2)))
    dataset = data.normalize_observations(data.dataset_from_arrays(**fields))
    std = fields["observation"].std(0) + 1e-3
    expected = (fields["observation"] - fields["observation"].mean(0)) / std
    np.testing.assert_allclose(dataset.transitions.observation, expected, rtol=1e-5)
    normalize = dataset.preprocessing.normalize
    np.testing.assert_allclose(normalize(jnp.asarray(fields["observation"])), expected, rtol=1e-5)
    np.testing.assert_allclose(
        dataset.transitions.next_observation[0], normalize(jnp.ones(2)), rtol=1e-5
    )
    assert np.isfinite(
        data.normalize_observations(
            data.dataset_from_arrays(**arrays(observation=np.ones((5, 2))))
        ).transitions.observation
    ).all()


def test_normalizing_twice_composes():
    fields = arrays()
    dataset = data.normalize_observations(
        data.normalize_observations(data.dataset_from_arrays(**fields))
    )
    np.testing.assert_allclose(
        dataset.preprocessing.normalize(jnp.asarray(fields["observation"][:4])),
        dataset.transitions.observation,
        atol=1e-5,
    )


def test_reward_transforms_compose_and_leave_raw_returns_readable():
    raw = data.dataset_from_arrays(
        **arrays(terminal=flags(1), next_observation=np.zeros((5, 2))), discount=0.5
    )
    dataset = data.transform_rewards(raw, scale=10.0, bias=-5.0)
    dataset = data.transform_rewards(dataset, scale=2.0, bias=1.0)
    np.testing.assert_allclose(dataset.transitions.reward, 20 * np.arange(1.0, 6.0) - 9)
    np.testing.assert_allclose(dataset.transitions.return_to_go[:2], [11 + 15.5, 31])
    np.testing.assert_allclose(data.episode_returns(dataset), [3, 12], rtol=1e-6)


def test_return_range_becomes_1000():
    raw = data.dataset_from_arrays(**arrays(terminal=flags(1), next_observation=np.zeros((5, 2))))
    dataset = data.scale_rewards_by_return_range(raw)
    np.testing.assert_allclose(dataset.transitions.reward[0], 1000 / 9, rtol=1e-6)


def test_return_range_of_equal_returns_is_refused():
    with pytest.raises(InputError, match="same return"):
        data.scale_rewards_by_return_range(data.dataset_from_arrays(**arrays()))


def test_best_episodes_are_kept_whole_and_in_order():
    raw = data.dataset_from_arrays(
        **arrays(
            reward=np.array([5.0, 5, 1, 4, 4]),
            terminal=flags(1, 2, 4),
            next_observation=np.zeros((5, 2)),
        )
    )
    best = data.keep_best_episodes(raw, 0.67)
    np.testing.assert_array_equal(best.transitions.reward, [5, 5, 4, 4])
    np.testing.assert_array_equal(best.episode, [0, 0, 1, 1])
    np.testing.assert_array_equal(data.keep_best_episodes(raw, 0.01).transitions.reward, [5, 5])
    assert len(data.keep_best_episodes(raw, 1.0)) == 5


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_share_of_episodes_outside_its_range_is_refused(fraction):
    with pytest.raises(InputError, match="share of episodes"):
        data.keep_best_episodes(data.dataset_from_arrays(**arrays()), fraction)


def test_spec_fields_pass_through():
    dataset = data.dataset_from_arrays(**arrays(), env_id="Hopper-v5", reference_scores=(0.0, 1.0))
    assert dataset.spec.env_id == "Hopper-v5"
    assert dataclasses.replace(dataset.spec, name="x") == type(dataset.spec).from_json(
        dataset.spec.to_json() | {"name": "x"}
    )


def test_a_bootstrap_can_stop_in_mid_episode():
    """OGBench masks the steps at the goal while the trajectory goes on."""
    dataset = data.dataset_from_arrays(
        np.arange(6.0)[:, None],
        np.zeros((6, 1)),
        np.ones(6),
        np.array([0, 1, 1, 0, 0, 0]),
        episode_end=np.array([0, 0, 0, 0, 0, 1]),
        next_observation=np.arange(1.0, 7.0)[:, None],
    )
    assert dataset.num_episodes == 1
    assert dataset.transitions.terminal.tolist() == [0, 1, 1, 0, 0, 0]
    assert dataset.transitions.next_action_valid.tolist() == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "change", [{"scale": 10.0}, {"scale": -1.0}, {"bias": -5.0}, {"scale": 10.0, "bias": -5.0}]
)
def test_return_range_scaling_gives_a_range_of_1000_after_any_transform(change):
    uneven = arrays(n=12, terminal=flags(2, 11, n=12))
    dataset = data.transform_rewards(data.dataset_from_arrays(**uneven), **change)
    scaled = data.scale_rewards_by_return_range(dataset)
    returns = np.bincount(scaled.episode, weights=scaled.transitions.reward)
    assert returns.max() - returns.min() == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"scale": float("nan")},
        {"bias": float("inf")},
        {"scale": 1e300},
        {"scale": 1e-50},
    ],
)
def test_rewards_are_not_made_unreadable(change):
    with pytest.raises(InputError, match="rewards cannot become"):
        data.transform_rewards(data.dataset_from_arrays(**arrays(timeout=flags(2))), **change)


def test_another_discount_changes_the_returns_to_go_alone():
    dataset = data.with_discount(data.dataset_from_arrays(**arrays(timeout=flags(2))), 0.0)
    np.testing.assert_allclose(dataset.transitions.return_to_go, dataset.transitions.reward)
    assert dataset.discount == 0.0
