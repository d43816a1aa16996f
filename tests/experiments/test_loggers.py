import logging
import sys
from types import ModuleType

import pytest

from experiments import loggers
from experiments.loggers import Loggers
from offrl_jax.types import InputError

ROW = {
    "step": 20,
    "steps_per_second": 99.5,
    "actor/loss": [0.5, None, 2],
    "episode_returns": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
}
NUMBERS = {"actor/loss/seed0": 0.5, "actor/loss/seed2": 2.0}


@pytest.fixture
def fake(monkeypatch):
    """A logger called `fake` that notes its calls and fails where it is told to."""

    class Fake:
        def __init__(self):
            self.calls, self.failing = [], set()

        def call(self, name, *arguments):
            self.calls.append((name, *arguments))
            if name in self.failing:
                raise RuntimeError(f"{name} went wrong")

        def __call__(self, run_dir):
            self.call("start", run_dir)
            return lambda *arguments: self.call("log", *arguments), lambda: self.call("close")

        def names(self):
            return [name for name, *_ in self.calls]

    fakes = {name: Fake() for name in ("fake", "other")}
    monkeypatch.setattr(loggers, "LOGGERS", fakes)
    return fakes


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_logger_that_there_is_not_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="no logger 'tensorbord'; there are tensorboard, wandb"):
        Loggers(["wandb", "tensorbord"], tmp_path)


def test_rows_are_passed_on_as_a_number_a_seed(fake, tmp_path):
    log = Loggers(["fake"], tmp_path)
    log(ROW)
    log({"step": 40, "score": [1.0]})
    log.close()
    assert fake["fake"].calls == [
        ("start", tmp_path),
        ("log", NUMBERS, 20),
        ("log", {"score/seed0": 1.0}, 40),
        ("close",),
    ]


def test_nothing_is_opened_before_the_first_row(fake, tmp_path):
    log = Loggers(["fake"], tmp_path)
    log.close()
    assert fake["fake"].calls == []


@pytest.mark.parametrize(
    ("failing", "calls"),
    [
        ("start", ["start"]),
        ("log", ["start", "log"]),
        ("close", ["start", "log", "log", "close"]),
    ],
)
def test_one_that_fails_is_warned_of_once_and_left_out_and_the_others_go_on(
    fake, tmp_path, caplog, failing, calls
):
    fake["fake"].failing.add(failing)
    log = Loggers(["fake", "other"], tmp_path)
    log(ROW)
    log(ROW)
    log.close()
    assert fake["fake"].names() == calls
    assert fake["other"].names() == ["start", "log", "log", "close"]
    (warning,) = warnings(caplog)
    assert "logger fake is left out" in warning
    assert f"RuntimeError: {failing} went wrong" in warning


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_package_that_is_absent_is_warned_of_once(tmp_path, caplog, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    log = Loggers([name], tmp_path)
    log(ROW)
    log(ROW)
    log.close()
    (warning,) = warnings(caplog)
    assert f"logger {name} is left out" in warning and package in warning


def test_tensorboard_gets_a_scalar_for_each_seed_that_has_one(tmp_path, monkeypatch):
    calls = []

    class SummaryWriter:
        def __init__(self, directory):
            calls.append(directory)

        def add_scalar(self, *arguments):
            calls.append(arguments)

        def close(self):
            calls.append("close")

    module = ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    log = Loggers(["tensorboard"], tmp_path)
    log(ROW)
    log.close()
    scalars = [(name, value, 20) for name, value in NUMBERS.items()]
    assert calls == [str(tmp_path / "tensorboard"), *scalars, "close"]


def test_wandb_goes_on_with_the_run_of_the_same_directory(tmp_path, monkeypatch):
    calls = []

    class Run:
        def define_metric(self, name, step_metric):
            calls.append((name, step_metric))

        def log(self, numbers):
            calls.append(numbers)

        def finish(self):
            calls.append("finish")

    def init(**options):
        calls.append(options)
        return Run()

    module = ModuleType("wandb")
    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    log = Loggers(["wandb"], tmp_path)
    log(ROW)
    log.close()
    options, *others = calls
    assert options["name"] == tmp_path.name and options["resume"] == "allow"
    assert others == [("*", "step"), NUMBERS | {"step": 20}, "finish"]
    calls.clear()
    for folder in (tmp_path, tmp_path / "other" / tmp_path.name):
        Loggers(["wandb"], folder)(ROW)
    again, elsewhere = (call for call in calls if "resume" in call)
    assert again["id"] == options["id"] != elsewhere["id"]
