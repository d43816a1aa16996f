"""The README's commands and example do what they say."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_there_are_two_one_line_commands_and_ci_runs_the_second():
    commands = [line for block in blocks("sh") for line in block.splitlines() if "venv" in line]
    assert len(commands) == 2
    assert commands[0].endswith("-m experiments.train")
    assert commands[1].endswith("-m pytest")
    assert commands[1] in (ROOT / ".ci/run").read_text().splitlines()


def test_every_command_names_flags_that_exist():
    commands = re.findall(r"-m (experiments\.\w+)(.*)", "\n".join(blocks("sh")))
    used = {module.removeprefix("experiments.") for module, _ in commands}
    assert used == {
        *("train", "select", "relabel", "overestimation"),
        *("benchmark", "compare", "d3rlpy_speed"),
    }
    for module, rest in commands:
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        defined = re.findall(
            r"(?:flags\.DEFINE_\w+|parser\.add_argument)\(\s*\"(?:--)?(\w+)\"", source
        )
        for flag in re.findall(r"(?<= )--(\w[\w.]*)=", rest):
            assert flag in defined or flag.startswith("config."), flag


def test_the_notebook_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path))
    (example,) = blocks("python")[:1]
    assert len(example.strip().splitlines()) <= 10
    shorter = example.replace("num_steps=100", "num_steps=2")
    assert shorter != example
    exec(shorter, {})
    assert capsys.readouterr().out
