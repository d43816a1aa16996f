"""The README's commands and example do what they say."""

import pytest

from tests.markdown import ROOT, code_blocks, commands, unknown_flags

README = (ROOT / "README.md").read_text()


def blocks(language):
    return code_blocks(README, language)


def test_there_are_two_one_line_commands_and_ci_runs_the_second():
    lines = [line for block in blocks("sh") for line in block.splitlines() if "venv" in line]
    assert len(lines) == 2
    assert lines[0].endswith("-m experiments.train")
    assert lines[1].endswith("-m pytest")
    assert lines[1] in (ROOT / ".ci/run").read_text().splitlines()


def test_every_command_names_flags_that_exist():
    found = commands("\n".join(blocks("sh")))
    used = {module.rpartition(".")[2] for module, _ in found}
    assert used == {
        *("train", "overestimation", "speed", "compare", "d3rlpy_speed"),
        *("collect", "datasets", "export", "select", "report", "notebooks", "safety", "sweep"),
        "evaluate",
    }
    for module, rest in found:
        assert not unknown_flags(module, rest), rest


@pytest.mark.parametrize(
    "rest, unknown",
    [
        (" runs/* --load_data --noload_data --output=a --title b --help", []),
        (" --load_date", ["load_date"]),
        (" runs/* --noload_date # a comment", ["noload_date"]),
        (" --nooutput --output", ["nooutput"]),
        (" --loaddata=1", ["loaddata"]),
    ],
)
def test_flags_that_do_not_exist_are_found_with_and_without_values(rest, unknown):
    assert unknown_flags("offrl_jax.cli.report", rest) == unknown


@pytest.mark.parametrize("index", [0, 2], ids=["in one call", "the functional core"])
def test_the_notebook_examples_run(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    example = blocks("python")[index]
    assert len(example.strip().splitlines()) <= 9
    shorter = example.replace("num_steps=100", "num_steps=5").replace("-20000", "-600")
    shorter = shorter.replace('"runs/bc*"', '"runs/c*"')
    assert shorter != example
    exec("import offrl_jax as orl\n" + shorter, {})
    assert capsys.readouterr().out
