"""A study's folder that an earlier run left unfinished."""

import json

from experiments import resumable


def test_a_folder_goes_on_where_its_description_was_cut_short(tmp_path):
    """Settings come first: what is missing beside them is written at the next start."""
    assert resumable.finished(tmp_path / "run", {"a": (1,)}, {"fact": 2}) == {}
    description = tmp_path / "run" / "environment.json"
    description.unlink()
    assert resumable.finished(tmp_path / "run", {"a": (1,)}, {"fact": 2}) == {}
    assert json.loads(description.read_text())["fact"] == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("config.json", "environment.json")
    }
