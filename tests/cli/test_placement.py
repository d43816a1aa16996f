"""`--placement` and `--host_memory_mb`: where the commands leave the data."""

import json

import numpy as np
import pytest

from offrl_jax import data
from tests import commands, files

SHORT = (
    *("--algorithm=bc", "--num_steps=6", "--num_seeds=2", "--num_evaluations=2"),
    *("--num_evaluation_episodes=0", "--config.batch_size=8"),
)
TINY = (*SHORT, "--config.network=8")
REFUSED = {
    "no shards": (["{npz}"], "offrl datasets shard"),
    "some episodes": (["{shards}", "--best_fraction=0.5"], "cannot be chosen in host memory"),
    "relabelled": (["{shards}", "--algorithm=abm"], "relabels all rows"),
    "too little memory": (
        ["{shards}", "--host_memory_mb=1", "--config.batch_size=20", "--num_seeds=1000"],
        "host_memory_mb=1 does not hold the batches of a step of 1000 runs; give at least 2",
    ),
    "no place": (["{shards}", "--placement=disk"], "--placement"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placement")
    files.write_npz(folder / "flat.npz", files.flat())
    data.shard(data.load_dataset(folder / "flat.npz"), folder / "flat.shards", rows_per_shard=7)
    return folder


@pytest.fixture(scope="module")
def done(folder):
    paths = {"npz": f"--dataset={folder}/flat.npz", "shards": f"--dataset={folder}/flat.shards"}
    cases = {
        placement: [
            *(
                paths["shards"],
                *TINY,
                f"--run_dir={folder}/{placement}",
                "--normalize_observations",
            ),
            f"--placement={placement}",
        ]
        for placement in ("device", "host", "auto")
    }
    for name, (words, _) in REFUSED.items():
        given = [word.format(**paths) for word in words]
        cases[name] = ["--placement=host", f"--run_dir={folder}/{name}", *SHORT, *given]
    return commands.run_apart("train", cases, OFFRL_JAX_CACHE=str(folder / "cache"))


def metrics(folder, placement):
    lines = (folder / placement / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_data_lie_where_the_flag_says_and_the_numbers_are_the_same(folder, done):
    for placement in ("device", "host", "auto"):
        assert done[placement]["code"] == 0, done[placement]
        environment = json.loads((folder / placement / "environment.json").read_text())
        assert environment["data_placement"] == ("host" if placement == "host" else "device")
        for row, expected in zip(
            metrics(folder, placement), metrics(folder, "device"), strict=True
        ):
            # the clone of 20 rows that likelihoods are of grows rounding over 1,000 updates
            names = {name for name in row if not name.endswith("_nll")} - {"steps_per_second"}
            for name in names:
                np.testing.assert_allclose(row[name], expected[name], rtol=1e-4, atol=1e-5)
    configs = [(folder / p / "config.json").read_text() for p in ("device", "host")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(folder, done, name):
    assert done[name]["code"] == 2 and REFUSED[name][1] in done[name]["err"], done[name]
    assert "Traceback" not in done[name]["err"]
    assert not (folder / name).exists()


@pytest.mark.slow
def test_a_sweep_takes_shards_too(folder):
    words = [
        *(f"--dataset={folder}/flat.shards", f"--sweep_dir={folder}/sweep", *TINY),
        *("--grid.learning_rate=1e-3,1e-4", "--placement=host", "--host_memory_mb=8"),
    ]
    (found,) = commands.run_apart("sweep", {"sweep": words}).values()
    assert found["code"] == 0, found
    environments = list((folder / "sweep/runs").glob("*/environment.json"))
    assert len(environments) == 2
    for path in environments:
        assert json.loads(path.read_text())["data_placement"] == "host"
