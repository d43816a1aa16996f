import pytest

from offrl_jax.runs.sweep_directory import SweepDirectory, check_sweep_dir
from offrl_jax.types import InputError

SETTINGS = {"algorithm": "bc", "grid": {"learning_rate": [1.0, 2.0]}, "seed": 0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep"


def test_the_same_sweep_goes_on(path):
    SweepDirectory(path, SETTINGS).close()
    again = SweepDirectory(path, SETTINGS)
    assert not again.is_done("a")
    again.run_dir("a").mkdir(parents=True)
    assert again.is_done("a") and again.path == path
    again.close()


def test_another_sweep_is_refused_with_the_difference(path):
    SweepDirectory(path, SETTINGS).close()
    before = (path / "sweep.json").read_bytes()
    words = r"another sweep \(grid.learning_rate was \[1.0, 2.0\], now \[1.0\]\); give another"
    with pytest.raises(InputError, match=words):
        SweepDirectory(path, SETTINGS | {"grid": {"learning_rate": [1.0]}})
    assert (path / "sweep.json").read_bytes() == before
    SweepDirectory(path, SETTINGS).close()  # the refusal holds no lock


def test_two_sweeps_in_one_directory_are_refused(path):
    held = SweepDirectory(path, SETTINGS)
    with pytest.raises(InputError, match=r"sweep_dir .* is in use by process"):
        SweepDirectory(path, SETTINGS)
    held.close()
    SweepDirectory(path, SETTINGS).close()


def test_those_that_train_a_job_each_share_it(path):
    first, second = (SweepDirectory(path, SETTINGS, shared=True) for _ in range(2))
    with pytest.raises(InputError, match="in use"):
        SweepDirectory(path, SETTINGS)
    first.close()
    second.close()
    SweepDirectory(path, SETTINGS).close()


def test_what_is_no_sweep_is_left_alone(path, tmp_path):
    path.mkdir()
    (path / "config.json").touch()
    with pytest.raises(InputError, match=r"sweep_dir .* holds config.json but no sweep; give"):
        check_sweep_dir(path)
    with pytest.raises(InputError, match="is a file"):
        check_sweep_dir(path / "config.json")


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"algorithm"'])
def test_a_damaged_sweep_is_a_sentence(path, content):
    path.mkdir()
    (path / "sweep.json").write_bytes(content)
    with pytest.raises(InputError, match=r"sweep.json cannot be read .*another sweep_dir"):
        SweepDirectory(path, SETTINGS)


def test_a_job_is_forgotten_with_all_that_it_left(path):
    directory = SweepDirectory(path, SETTINGS)
    directory.forget_job(0)  # never begun
    for index in (0, 1):
        (directory.job_dir(index) / "checkpoints").mkdir(parents=True)
    directory.forget_job(0)
    assert [p.name for p in (path / "jobs").iterdir()] == ["1"]
    directory.forget_job(1)
    assert not (path / "jobs").exists()
    directory.close()
