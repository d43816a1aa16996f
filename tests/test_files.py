import json
import math

import pytest

from offrl_jax.files import finite, replacing, write_json


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as partial:
            partial.write_text("new")
        assert reader.read() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as partial:
        partial.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_removes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_what_is_not_finite_becomes_null(tmp_path):
    value = {"a": [1.5, math.nan, (math.inf, 2)], "b": {"c": -math.inf}, "d": "nan", "e": True}
    write_json(tmp_path / "file", value)

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "file").read_text(), parse_constant=refuse)
    assert read == {"a": [1.5, None, [None, 2]], "b": {"c": None}, "d": "nan", "e": True}
    assert value["b"]["c"] == -math.inf  # the caller's own is left as it is


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_finite_numbers_keep_their_type():
    assert [type(x) for x in finite([1, 1.0, True, "x"])] == [int, float, bool, str]
