import json
import logging
import math
import struct
import sys
from types import ModuleType

import pytest

from offrl_jax.runs import loggers
from offrl_jax.runs.loggers import Loggers
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

        def __call__(self, run_dir, first_step):
            self.call("start", run_dir, first_step)
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
        ("start", tmp_path, 20),
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
        def __init__(self, directory, purge_step):
            calls.append((directory, purge_step))

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
    assert calls == [(str(tmp_path / "tensorboard"), 21), *scalars, "close"]


def logged(name, run_dir, *rows):
    log = Loggers([name], run_dir)
    for step, value in rows:
        log({"step": step, "critic/loss": [value, None, float("nan")], "count": [7]})
    log.close()


def events(run_dir):
    """What TensorBoard shows of a folder's event files (TFRecord: length, its CRC, data, CRC): a
    tag's values by step, without those that a later start of a session takes back."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs tensorboardX")
    shown = {}
    for path in sorted((run_dir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status == 1:
                for values in shown.values():
                    for step in [step for step in values if step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_tensorboard_files_hold_values_and_steps(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    logged("tensorboard", tmp_path, (10, 0.5), (30, -2.0), (20, 1e6))  # an evaluation comes late
    shown = events(tmp_path)
    assert shown["critic/loss/seed0"] == {10: 0.5, 20: 1e6, 30: -2.0}
    assert shown["count/seed0"] == dict.fromkeys((10, 20, 30), 7.0)
    assert list(shown["critic/loss/seed2"]) == [10, 30, 20] and len(shown) == 3
    assert all(math.isnan(value) for value in shown["critic/loss/seed2"].values())


def test_tensorboard_forgets_the_steps_that_a_killed_run_takes_again(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    logged("tensorboard", tmp_path, (10, 1.0), (20, 2.0), (30, 3.0))
    (first,) = (tmp_path / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.0"))  # named by the second that it began in
    log = Loggers(["tensorboard"], tmp_path)
    log({"step": 20, "score": [50.0]})
    log({"step": 25, "critic/loss": [5.0]})
    log.close()
    shown = events(tmp_path)
    assert shown["critic/loss/seed0"] == {10: 1.0, 20: 2.0, 25: 5.0}
    assert shown["score/seed0"] == {20: 50.0}


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


def history(path):
    """Rows and id of a run in wandb's file: LevelDB's log of protocol buffers after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, records, position = path.read_bytes(), [b""], 7
    while len(content) - position > 7:
        if 32768 - position % 32768 < 7:  # no room for a header in the block
            position += 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        records[-1] += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            records.append(b"")
    rows, run_id = [], None
    for record in map(wandb_internal_pb2.Record.FromString, records[:-1]):
        run_id = record.run.run_id or run_id
        if items := record.history.item:
            row = {item.key or "/".join(item.nested_key): item.value_json for item in items}
            rows.append({k: json.loads(v) for k, v in row.items() if not k.startswith("_")})
    return rows, run_id


def test_wandb_writes_its_history_offline_and_a_resumed_run_adds_to_it(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    logged("wandb", tmp_path, (10, 0.5), (30, -2.0), (20, 1e6))
    logged("wandb", tmp_path, (40, 4.0))
    first, second = sorted(
        (tmp_path / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime
    )
    rows, run_id = history(first)
    assert [(row["step"], row["critic/loss/seed0"]) for row in rows] == [
        *((10, 0.5), (30, -2.0), (20, 1e6)),
    ]
    assert rows[0]["count/seed0"] == 7 and "critic/loss/seed1" not in rows[0]
    (row,), again = history(second)
    assert (row["step"], row["critic/loss/seed0"], again) == (40, 4.0, run_id)
