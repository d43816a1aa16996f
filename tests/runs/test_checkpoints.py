import json
import logging
import shutil
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from offrl_jax import init, learn
from offrl_jax.runs import checkpoints
from offrl_jax.runs.checkpoints import Checkpoints, Damaged
from offrl_jax.types import InputError
from tests.toy import RuleConfig, rule, toy_dataset


class State(NamedTuple):
    step: Any
    nested: dict
    absent: Any = None


def state(number=1.0):
    return State(
        step=jnp.array([4, 4], jnp.int32),
        nested={
            "kernel": jnp.full((2, 3), number),
            "mask": jnp.array([True, False]),
            "half": jnp.full(2, number, jnp.bfloat16),
            "scalar": jnp.float32(number),
            "pair": (jnp.full(2, -number), None),
        },
    )


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def saved(directory, *steps, **options):
    """Checkpoints of states that hold their own step as a number."""
    checkpoints = Checkpoints(directory, **options)
    for step in steps:
        checkpoints.save(step, state(float(step)), {"name": f"of {step}"})
    checkpoints.close()
    return directory


def kept(directory):
    return sorted(int(path.name) for path in directory.iterdir())


def damage(directory, step):
    """Changes a single bit of every file of arrays: which of them counts depends on the timing."""
    for path in (directory / str(step)).rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_what_is_restored_is_what_was_saved(directory):
    facts = {"rows": {"a.jsonl": [3, "ab"]}, "diverged": [None, "ä"], "number": 0.1}
    checkpoints = Checkpoints(directory)
    checkpoints.save(4, state(0.1), facts)
    checkpoints.close()
    step, restored, found = Checkpoints(directory).restore(state(0.0))
    assert step == 4 and found == facts
    assert_same(restored, state(0.1))


def test_shapes_alone_are_template_enough(directory):
    saved(directory, 1)
    _, restored, _ = Checkpoints(directory).restore(jax.eval_shape(partial(state, 0.0)))
    assert_same(restored, state(1.0))


def test_numbers_that_are_not_finite_come_back_too(directory):
    odd = state()._replace(nested={"x": jnp.array([jnp.nan, jnp.inf, -0.0])})
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, odd)
    checkpoints.close()
    assert_same(Checkpoints(directory).restore(odd)[1], odd)


def learnt(state):
    key = jax.random.split(jax.random.key(0), 2)
    return learn(rule, RuleConfig(), toy_dataset(), state, key, num_steps=3)[0]


def test_a_state_may_be_donated_as_soon_as_it_is_saved_or_restored(directory):
    key = jax.random.split(jax.random.key(0), 2)
    old = init(rule, RuleConfig(), toy_dataset().spec, key)
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, old)
    new = learnt(old)  # donates it
    checkpoints.save(2, new)
    checkpoints.close()
    restored = Checkpoints(directory).restore(new)[1]
    assert restored.step.tolist() == [3, 3]
    shutil.rmtree(directory / "2")
    restored = Checkpoints(directory).restore(new)[1]
    assert restored.step.tolist() == [0, 0]
    assert_same(learnt(restored), new)


def test_arrays_of_the_host_may_be_changed_as_soon_as_they_are_saved(directory):
    array = np.ones(1000, np.float32)
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, {"x": array})
    array[:] = 2
    checkpoints.close()
    restored = Checkpoints(directory).restore({"x": array})[1]
    assert (restored["x"] == 1).all()


def changed(**nested):
    return state()._replace(nested=state().nested | nested)


def without(name):
    return state()._replace(nested={k: v for k, v in state().nested.items() if k != name})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (changed(kernel=jnp.zeros((2, 4))), "nested.kernel as .*3.* need .*4"),
        (changed(kernel=jnp.zeros((2, 3), jnp.bfloat16)), "nested.kernel .*float32.*bfloat16"),
        (changed(more=jnp.zeros(2)), "nested.more as None"),
        (without("mask"), "nested.mask as .*bool.* need None"),
    ],
    ids=["shape", "dtype", "a leaf more", "a leaf less"],
)
def test_a_state_of_other_settings_is_one_sentence_and_nothing_is_lost(directory, template, words):
    saved(directory, 1, 2)
    with pytest.raises(InputError, match=f"checkpoint 2 .*{words}.*another run_dir") as caught:
        Checkpoints(directory).restore(template)
    assert "\n" not in str(caught.value)
    assert kept(directory) == [1, 2]
    assert Checkpoints(directory).restore(state())[0] == 2


def test_a_newer_format_is_one_sentence_and_nothing_is_lost(directory, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 7)
    saved(directory, 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="format 7 where this version reads 1"):
        Checkpoints(directory).restore(state())
    assert kept(directory) == [1]


def test_a_damaged_newest_one_is_warned_of_removed_and_can_be_saved_again(directory, caplog):
    saved(directory, 1, 2)
    damage(directory, 2)
    checkpoints = Checkpoints(directory)
    with caplog.at_level(logging.WARNING):
        step, restored, facts = checkpoints.restore(state())
    assert step == 1 and facts == {"name": "of 1"}
    assert_same(restored, state(1.0))
    assert "checkpoint 2" in caplog.text and "damaged" in caplog.text
    assert "resuming from checkpoint 1" in caplog.text
    assert kept(directory) == [1, 2]  # for a command that is refused changes nothing
    checkpoints.forget_damaged()
    assert kept(directory) == [1]
    checkpoints.save(2, state(2.5))
    checkpoints.close()
    step, restored, _ = Checkpoints(directory).restore(state())
    assert step == 2
    assert_same(restored, state(2.5))


def description_of(directory, step):
    return directory / str(step) / "description" / "metadata"


@pytest.mark.parametrize(
    ("before", "after"),
    [('"of 2"', '"of 3"'), ('"step": 2', '"step": 3'), ('"sha256": "', '"sha256": "0')],
)
def test_a_changed_description_is_damage(directory, before, after):
    saved(directory, 1, 2)
    path = description_of(directory, 2)
    description = json.dumps(json.loads(path.read_text()))
    assert before in description
    path.write_text(description.replace(before, after))
    assert Checkpoints(directory).restore(state())[0] == 1


def test_whole_arrays_of_another_state_are_damage(directory):
    """Which Orbax has no reason to notice."""
    saved(directory, 1, 2)
    shutil.rmtree(directory / "2" / "state")
    shutil.copytree(directory / "1" / "state", directory / "2" / "state")
    assert Checkpoints(directory).restore(state())[0] == 1


def test_what_does_not_accept_the_facts_is_passed_over(directory, caplog):
    saved(directory, 1, 2)

    def accept(facts):
        if facts["name"] == "of 2":
            raise Damaged("rows are lost")

    step, _, facts = Checkpoints(directory).restore(state(), accept)
    assert step == 1 and facts == {"name": "of 1"}
    assert "rows are lost" in caplog.text


def test_where_none_is_whole_they_are_left_and_it_is_said(directory):
    saved(directory, 1, 2)
    damage(directory, 1)
    damage(directory, 2)
    with pytest.raises(InputError, match=r"none of the 2 checkpoints in .* can be resumed from"):
        Checkpoints(directory).restore(state())
    assert kept(directory) == [1, 2]


def test_where_none_was_saved_there_is_none(directory):
    assert Checkpoints(directory).restore(state()) is None


def test_the_newest_and_the_regular_ones_are_kept(directory):
    assert kept(saved(directory, *range(1, 8), keep_last=2, keep_every=3)) == [3, 6, 7]


def test_the_newest_are_kept(directory):
    assert kept(saved(directory, *range(1, 6), keep_last=2)) == [4, 5]


def test_what_an_interrupted_save_left_is_removed_and_its_step_saved_again(directory):
    saved(directory, 1)
    shutil.copytree(directory / "1", directory / "2.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(directory)
    assert checkpoints.restore(state())[0] == 1
    checkpoints.save(2, state(2.0))
    checkpoints.close()
    assert kept(directory) == [1, 2]
    assert_same(Checkpoints(directory).restore(state())[1], state(2.0))


def test_a_step_is_saved_once(directory):
    saved(directory, 1)
    with pytest.raises(OSError, match="step 1 exists already"):
        Checkpoints(directory).save(1, state(5.0))
    assert_same(Checkpoints(directory).restore(state())[1], state(1.0))


@pytest.mark.parametrize("error", [OSError("no space left"), ValueError(f"x{'y ' * 5000}")])
def test_what_fails_at_once_is_a_short_oserror(directory, monkeypatch, error):
    checkpoints = Checkpoints(directory)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(OSError, match=f"cannot be written: {type(error).__name__}") as caught:
        checkpoints.save(1, state())
    assert len(str(caught.value)) < 350 and caught.value.__cause__ is error


@pytest.mark.parametrize("then", ["save", "close"])
def test_what_fails_in_the_background_is_an_oserror_of_the_next_call(directory, monkeypatch, then):
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, state())

    def fail():
        raise ValueError("no space left")

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(2, state()) if then == "save" else checkpoints.close()
    checkpoints.abandon()


def test_another_one_on_the_same_folder_sees_the_steps(directory):
    first = Checkpoints(directory)
    first.save(1, state(1.0))
    first.close()
    second = Checkpoints(directory)
    assert second.restore(state())[0] == 1
    second.save(2, state(2.0))
    second.close()
    assert Checkpoints(directory).restore(state())[0] == 2


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), ValueError("PERMISSION_DENIED: Error opening zarr")],
)
def test_trouble_that_passes_is_no_damage(directory, monkeypatch, error):
    saved(directory, 1, 2)
    checkpoints = Checkpoints(directory)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with pytest.raises(OSError, match=r"Too many open files|PERMISSION_DENIED"):
        checkpoints.restore(state())
    checkpoints.forget_damaged()
    assert kept(directory) == [1, 2]


def test_what_the_store_declares_is_held_against_the_description(directory):
    saved(directory, 1, 2)
    folder = (directory / "2" / "state").as_uri()
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": folder}).result()
    declared = json.loads(store["step/.zarray"])
    declared |= {"shape": [2**38], "chunks": [2**38]}  # a terabyte
    store["step/.zarray"] = json.dumps(declared)
    step, _, _ = Checkpoints(directory).restore(state())
    assert step == 1
