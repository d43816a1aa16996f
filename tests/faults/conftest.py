from typing import NamedTuple

import pytest

from offrl_jax.cli import command_line, train
from tests import commands


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def command():
    """Runs the training command in this process: its exit code and what it printed."""

    def command(*arguments: str) -> Done:
        found = commands.run(train, *arguments)
        return Done(found["code"], found["out"], found["err"])

    return command


@pytest.fixture
def refused(command, tmp_path, seen):
    """Runs the training command on what it must refuse: one sentence, exit code 2, no run."""

    def refused(*arguments: str, words: tuple[str, ...]) -> str:
        run_dir = tmp_path / "refused_run"
        done = command("--algorithm=bc", f"--run_dir={run_dir}", *arguments)
        sentence = done.stderr.splitlines()[-1]
        seen(sentence.replace(f"{tmp_path}/", ""))
        assert done.code == command_line.ERROR_CODE, done
        assert sentence.startswith("error: ") and "Traceback" not in done.stderr
        assert all(word in sentence for word in words), sentence
        assert not run_dir.exists()
        return sentence

    return refused
