import dataclasses

import numpy as np

from offrl_jax.evaluation.rollouts import Rollouts
from offrl_jax.reports.table import diagnostics_table, final_table
from tests.toy import toy_dataset

SPEC = toy_dataset().spec  # returns of 0 and 10 score 0 and 100
ROLLOUTS = Rollouts(
    episode_return=np.array([[1.0, 3.0], [4.0, 4.0], [9.0, 9.0]]),
    discounted_return=np.zeros((3, 2)),
    length=np.full((3, 2), 7),
    success=np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
    learned_value=np.array([[3.0, 4.0], [2.0, 2.0], [0.0, 0.0]]),
    actual_value=np.array([[2.0, 2.0], [2.0, 2.0], [4.0, 4.0]]),
)


def test_the_table_holds_scores_by_seed_their_mean_and_the_datas_average():
    lines = final_table(ROLLOUTS, SPEC, 2.5, first_seed=5).splitlines()
    assert lines[1].split() == ["5", "20.0", "2.0", "7", "50%", "+1.50"]
    assert lines[3].split() == ["7", "90.0", "9.0", "7", "0%", "-4.00"]
    text = "\n".join(lines)
    assert "mean score of the last policies    50.0" in text
    assert "95% interval 20.0 to 90.0 over 3 seeds" in text
    assert lines[-1].split()[-1] == "25.0"


def test_what_is_unknown_is_left_out():
    rollouts = dataclasses.replace(
        ROLLOUTS, success=np.full((3, 2), np.nan), learned_value=np.full((3, 2), np.nan)
    )
    text = final_table(rollouts, dataclasses.replace(SPEC, reference_scores=None), 2.5)
    assert "success" not in text and "learned" not in text and "nan" not in text
    assert "mean return of the last policies    5.0" in text


def test_a_caveat_of_the_environment_is_told():
    door = dataclasses.replace(SPEC, env_id="AdroitHandDoor-v1")
    assert "not comparable with published" in final_table(ROLLOUTS, door, 2.5)


def test_diagnostics_are_listed_by_seed():
    metrics = {
        "critic/loss": np.array([9.0, 9.0]),
        "diagnostics/policy_gap": np.array([1.234, -0.5]),
        "diagnostics/random_gap": np.array([-20.0, np.nan]),
        "diagnostics/ensemble_spread": np.array([0.126, 0.0]),
        "diagnostics/action_saturation": np.array([0.254, 1.0]),
        "diagnostics/behavior_nll": np.array([3.0, 2.0]),
        "diagnostics/data_nll": np.array([-1.0, -1.0]),
    }
    header, *lines = diagnostics_table(metrics, first_seed=4).splitlines()
    assert [cell.strip() for cell in header.split("  ") if cell] == [
        "seed",
        "Q(policy) − Q(data)",
        "Q(random) − Q(data)",
        "spread of critics",
        "saturated actions",
        "behaviour NLL",
        "of the data",
    ]
    assert lines[0].split() == ["4", "+1.23", "-20.00", "0.13", "25%", "3.00", "-1.00"]
    assert lines[1].split() == ["5", "-0.50", "–", "0.00", "100%", "2.00", "-1.00"]
    assert len({len(line) for line in (header, *lines)}) == 1  # right-aligned


def test_diagnostics_without_a_critic_leave_its_columns_out():
    kept = {
        f"diagnostics/{name}": np.array([0.5])
        for name in ("action_saturation", "behavior_nll", "data_nll")
    }
    text = diagnostics_table(kept)
    assert "Q(" not in text and "critics" not in text
    assert text.splitlines()[1].split() == ["0", "50%", "0.50", "0.50"]


def lost(*seeds):
    """The rollouts with these seeds lost."""
    keep = ~np.isin(np.arange(3), seeds)[:, None]
    arrays = (getattr(ROLLOUTS, field.name) for field in dataclasses.fields(ROLLOUTS))
    return Rollouts(*(np.where(keep, array, np.nan) for array in arrays))


def test_lost_seeds_are_dashes_that_are_counted_but_not_averaged():
    lines = final_table(lost(1), SPEC, 2.5, first_seed=5).splitlines()
    assert lines[2].split() == ["6", *"–––––"]
    assert lines[1].split() == ["5", "20.0", "2.0", "7", "50%", "+1.50"]
    assert len({len(line) for line in lines[:4]}) == 1
    text = "\n".join(lines)
    assert "mean score of the last policies    55.0" in text
    assert "95% interval 20.0 to 90.0 over 2 seeds" in text
    assert "note: these are of 2 seeds; 1 more diverged" in text
    assert "nan" not in text


def test_a_single_seed_left_has_no_interval():
    text = final_table(lost(0, 1), SPEC, 2.5)
    assert "mean score of the last policies    90.0" in text
    assert "no interval from one seed" in text
    assert "note: these are of 1 seeds; 2 more diverged" in text and "nan" not in text


def test_without_lost_seeds_there_is_no_note_of_them():
    assert "diverged" not in final_table(ROLLOUTS, SPEC, 2.5)


def test_lost_seeds_are_dashes_among_the_diagnostics_too():
    metrics = {
        f"diagnostics/{name}": np.array([0.5, np.nan])
        for name in ("action_saturation", "behavior_nll", "data_nll")
    }
    assert diagnostics_table(metrics).splitlines()[2].split() == ["1", *"–––"]
