import copy
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from offrl_jax.runs import directory
from offrl_jax.runs.checkpoints import Damaged
from offrl_jax.runs.directory import RowFile, RunDirectory
from offrl_jax.runs.outcomes import AlreadyFinished
from offrl_jax.types import InputError

SETTINGS = {
    "algorithm": "rule",
    "config": {"gain": 0.5, "sizes": (8, 8)},
    "num_steps": 4,
    "dataset": {"name": "here.npz", "fingerprint": "abc"},
    "preprocessing": {"mean": [0.5, 1.25]},
    "divergence_limit": float("inf"),
}
ENVIRONMENT = {"versions": {"jax": "1"}, "devices": ["cpu"], "num_threads": 2, "command": ["x"]}


def settings(**changes):
    """Changes by name, with two underscores for a level."""
    changed = copy.deepcopy(SETTINGS)
    for name, value in changes.items():
        *outer, last = name.split("__")
        inside = changed
        for key in outer:
            inside = inside[key]
        inside[last] = value
    return changed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def opened():
    """Opens run directories, and closes them at the end."""
    found = []

    def opened(path, settings=SETTINGS, environment=ENVIRONMENT, **options):
        found.append(RunDirectory(path, settings, environment, **options))
        return found[-1]

    yield opened
    for one in found:
        one.close()


def begun(path, failed=..., **changes):
    """A run's directory as a session leaves it; with `failed` that ended."""
    directory = RunDirectory(path, settings(**changes), ENVIRONMENT)
    directory.adopt()
    if failed is not ...:
        directory.end(failed, {"step": 4})
    directory.close()
    return path


def read(path):
    return json.loads(path.read_text())


def names(path):
    return {p.name for p in path.iterdir()}


@pytest.mark.parametrize(
    "litter", [None, [], ["run.lock"], [".config.json.123", "run.lock"]], ids=str
)
def test_what_holds_no_run_yet_is_taken(path, opened, litter):
    if litter is not None:
        path.mkdir()
        for name in litter:
            (path / name).touch()
    opened(path).adopt()
    assert names(path) == {"config.json", "environment.json", "run.lock"}
    assert read(path / "config.json")["config"] == {"gain": 0.5, "sizes": [8, 8]}


@pytest.mark.parametrize("name", ["notes.txt", "metrics.jsonl", "checkpoints", ".hidden"])
def test_what_holds_anything_else_is_refused_and_left(path, opened, name):
    path.mkdir()
    (path / name).touch()
    with pytest.raises(InputError, match=f"holds {name} but no run"):
        opened(path)
    assert names(path) == {name}


def test_differences_are_told_in_one_sentence_by_dotted_name(path, opened):
    begun(path)
    with pytest.raises(InputError) as caught:
        opened(path, settings(config__gain=0.25, num_steps=8, config__extra=[1, 2]))
    (sentence,) = str(caught.value).splitlines()
    for words in (
        "config.gain was 0.5, now 0.25",
        "num_steps was 4, now 8",
        "config.extra was null, now [1, 2]",
        "allow_config_change",
    ):
        assert words in sentence
    assert "algorithm" not in sentence
    assert read(path / "config.json")["num_steps"] == 4


def test_long_values_are_told_in_short(path, opened):
    begun(path)
    with pytest.raises(
        InputError, match=r"preprocessing.mean was .* now \[0, 1, .*\.\.\."
    ) as caught:
        opened(path, settings(preprocessing__mean=list(range(1000))))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "same",
    [
        {"config__sizes": [8, 8]},
        {"preprocessing__mean": np.array([0.5, 1.25], np.float32).tolist()},
        {"dataset__name": "elsewhere.npz"},
        {"divergence_limit": float("inf")},
    ],
    ids=str,
)
def test_another_spelling_or_place_is_no_difference(path, opened, same):
    begun(path)
    directory = opened(path, settings(**same))
    directory.adopt()
    assert "changed" not in read(path / "environment.json")["resumed"][0]


def test_other_data_are_a_difference_whatever_their_name(path, opened):
    begun(path)
    with pytest.raises(InputError, match=r'dataset\.fingerprint was "abc", now "xyz"'):
        opened(path, settings(dataset__fingerprint="xyz"))


def test_allowed_changes_are_written_when_the_run_is_sure_to_go_on(path, opened, caplog):
    begun(path)
    directory = opened(path, settings(num_steps=8), allow_config_change=True)
    assert "num_steps was 4, now 8" in caplog.text
    assert read(path / "config.json")["num_steps"] == 4
    directory.adopt()
    assert read(path / "config.json")["num_steps"] == 8
    (resumed,) = read(path / "environment.json")["resumed"]
    assert resumed["changed"] == {"num_steps": [4, 8]}
    directory.close()
    opened(path, settings(num_steps=8))  # is its own now


def test_a_finished_run_is_left_alone(path, opened):
    begun(path, failed=None)
    before = {p: p.read_bytes() for p in path.iterdir() if p.name != "run.lock"}
    with pytest.raises(AlreadyFinished, match="nothing is left to do"):
        opened(path)
    with pytest.raises(InputError, match="num_steps was 4, now 8"):
        opened(path, settings(num_steps=8))
    assert all(p.read_bytes() == content for p, content in before.items())


def test_a_finished_run_is_unfinished_when_it_is_sure_to_go_on(path, opened):
    begun(path, failed=None)
    directory = opened(path, settings(num_steps=8), allow_config_change=True)
    assert (path / "DONE").exists()
    directory.adopt()
    assert not (path / "DONE").exists()


def test_a_failed_run_goes_on_with_the_same_settings(path, opened):
    begun(path, failed="the disk was full")
    assert read(path / "FAILED.json")["reason"] == "the disk was full"
    directory = opened(path)
    assert (path / "FAILED.json").exists()
    directory.adopt()
    assert not (path / "FAILED.json").exists()


def test_the_end_is_written_with_its_step_and_time(path):
    begun(path, failed=None)
    done = read(path / "DONE")
    assert done["step"] == 4 and done["time"].startswith("20") and "reason" not in done
    assert not (path / "FAILED.json").exists()


def test_what_an_interrupted_write_left_is_removed(path, opened):
    begun(path)
    (path / ".config.json.77").write_text("{")
    (path / "policy").mkdir()
    (path / "policy" / ".weights.npz.77").write_text("half")
    (path / "policy" / "weights.npz").write_text("whole")
    opened(path).adopt()
    assert ".config.json.77" not in names(path)
    assert names(path / "policy") == {"weights.npz"}


def test_a_directory_in_use_is_refused_with_the_process_that_uses_it(path, opened):
    first = opened(path)
    with pytest.raises(InputError, match=f"in use by process {os.getpid()};"):
        opened(path)
    first.close()
    opened(path)


HOLD = """
import sys
from offrl_jax.runs.directory import RunDirectory
directory = RunDirectory(sys.argv[1], {}, {})
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_that_dies_releases_it(path, opened):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match=f"in use by process {process.pid};"):
        opened(path, {})
    process.kill()
    process.communicate()
    opened(path, {})


def test_a_refused_directory_is_released(path, opened):
    begun(path)
    for _ in range(2):
        with pytest.raises(InputError, match="num_steps"):
            opened(path, settings(num_steps=8))
    opened(path)


def test_a_disk_that_is_full_at_once_is_a_sentence_and_releases_it(path, opened, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("offrl_jax.runs.directory.write_json", fail)
        with pytest.raises(InputError, match=r"cannot be written \(no space left\)") as caught:
            opened(path)
    assert caught.value.__traceback__  # which would hold a lock that nobody closed
    opened(path)


def test_settings_are_compared_when_nobody_else_can_write_them(path, opened, monkeypatch):
    """Another run that began and ended between two looks is not gone on with."""
    take = directory.locked

    def late(*arguments):
        monkeypatch.undo()
        begun(path, num_steps=8)
        return take(*arguments)

    monkeypatch.setattr(directory, "locked", late)
    with pytest.raises(InputError, match="num_steps was 8, now 4"):
        opened(path)


@pytest.mark.parametrize(
    "content", [b"", b'{"num_steps": 4', b"\xff\xfe", b"\x00" * 50, b"null", b"[1]"]
)
def test_a_damaged_config_is_a_sentence(path, opened, content):
    begun(path)
    (path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json cannot be read \(.*another run_dir"):
        opened(path)
    assert (path / "config.json").read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"", b'{"versions"', b"\xff\xfe", b"null", b"3", b'{"resumed": 3}']
)
def test_a_damaged_environment_is_replaced(path, opened, content):
    begun(path)
    (path / "environment.json").write_bytes(content)
    opened(path).adopt()
    assert read(path / "environment.json") == ENVIRONMENT


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nosuchuser/run"], ids=str)
def test_what_is_no_path_is_a_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a path"):
        RunDirectory(name, SETTINGS, ENVIRONMENT)


def test_a_relative_directory_stays_where_it_was(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = opened("run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    directory.end(None, {"step": 1})
    assert (tmp_path / "run" / "DONE").exists()


def test_every_session_is_noted(path, opened):
    for _ in range(3):
        begun(path)
    environment = read(path / "environment.json")
    assert environment["resumed"] == [ENVIRONMENT] * 2
    assert {k: environment[k] for k in ENVIRONMENT} == ENVIRONMENT


def test_other_versions_are_warned_of_once(path, opened, caplog):
    begun(path)
    other = ENVIRONMENT | {"versions": {"jax": "2"}, "num_threads": 3, "command": ["y"]}
    with caplog.at_level(logging.WARNING):
        opened(path, environment=other).adopt()
    (record,) = caplog.records
    assert "versions, num_threads changed since" in record.getMessage()
    caplog.clear()
    opened(path.with_name("new"), environment=other).adopt()
    begun(path.with_name("same"))
    opened(path.with_name("same")).adopt()
    assert not caplog.records


def test_the_marks_are_of_both_files_of_rows(path, opened):
    directory = opened(path)
    directory.metrics.append({"step": 1})
    marks = directory.marks()
    directory.evaluations.append({"step": 1})
    directory.check(marks)
    with pytest.raises(Damaged, match=r"evaluations\.jsonl"):
        directory.check(marks | {"evaluations.jsonl": [9, "another digest"]})
    directory.cut(marks)
    assert directory.evaluations.last() is None and directory.metrics.last() == {"step": 1}
    directory.cut({})
    assert directory.metrics.last() is None


@pytest.fixture
def rows(tmp_path):
    return RowFile(tmp_path / "rows.jsonl")


def reopened(rows):
    return RowFile(rows.path)


def test_rows_are_lines_of_json_with_null_for_what_is_not_finite(rows):
    rows.append({"step": 1, "loss": [0.5, float("nan"), float("inf")]})
    rows.append({"step": 2})
    lines = rows.path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": [0.5, None, None]},
        {"step": 2},
    ]
    assert "NaN" not in lines[0] and "Infinity" not in lines[0]
    assert rows.last() == {"step": 2}


def test_without_rows_there_is_no_last_one_and_no_file(rows):
    assert rows.last() is None
    rows.check(rows.mark())
    rows.cut(0)
    assert not rows.path.exists()


def test_rows_after_the_mark_are_cut_and_more_may_follow(rows):
    rows.append({"step": 1})
    mark = rows.mark()
    rows.append({"step": 2})
    rows.path.write_bytes(rows.path.read_bytes() + b'{"step": 3, "lo')  # torn
    again = reopened(rows)
    again.check(mark)
    again.cut(mark[0])
    assert again.last() == {"step": 1}
    again.append({"step": 5})
    assert [json.loads(line)["step"] for line in rows.path.read_text().splitlines()] == [1, 5]
    reopened(rows).check(again.mark())


@pytest.mark.parametrize(
    ("following", "kept"),
    [
        (b'{"step": 2}\n{"step": 3}\n', b'{"step": 2}\n'),
        (b'{"step": 3}\n', b""),
        (b'{"step": 2}', b""),
        (b'{"st\n', b""),
        (b"null\n", b""),
        (b"{}\n", b""),
        (b"", b""),
    ],
    ids=["whole", "of another step", "torn", "damaged", "null", "no row", "absent"],
)
def test_a_row_after_the_mark_may_be_kept_for_its_step(rows, following, kept):
    rows.append({"step": 1})
    length, _ = rows.mark()
    begin = rows.path.read_bytes()
    rows.path.write_bytes(begin + following)
    again = reopened(rows)
    again.cut(length, 2)
    assert rows.path.read_bytes() == begin + kept
    reopened(rows).check(again.mark())


def test_the_same_rows_have_the_same_mark_however_they_came_about(rows, tmp_path):
    for step in (1, 2):
        rows.append({"step": step})
    other = RowFile(tmp_path / "other.jsonl")
    other.append({"step": 1})
    other = RowFile(other.path)
    other.cut(rows.path.read_bytes().index(b"\n") + 1)
    other.append({"step": 2})
    assert other.mark() == rows.mark()


@pytest.mark.parametrize("harm", ["a byte", "a row less", "a byte less", "no file"])
def test_rows_of_the_mark_that_are_changed_or_lost_are_damage(rows, harm):
    for step in (1, 2):
        rows.append({"step": step})
    mark = rows.mark()
    content = rows.path.read_bytes()
    if harm == "no file":
        rows.path.unlink()
    else:
        harmed = {
            "a byte": content.replace(b"1", b"7"),
            "a row less": content[: len(content) // 2],
            "a byte less": content[:-1],
        }
        rows.path.write_bytes(harmed[harm])
    with pytest.raises(
        Damaged, match=r"rows of rows\.jsonl that belong to it are missing or changed"
    ):
        reopened(rows).check(mark)
