"""Measures how fast d3rlpy trains, on a CPU and one seed, to be compared with offrl_jax.

  python -m experiments.benchmarks.d3rlpy_speed
  python -m experiments.benchmarks.d3rlpy_speed --algorithms=iql,cql --seconds=20

d3rlpy brings torch, so it best gets an environment of its own; this command needs nothing else, not
even jax. Data are 100,000 random transitions of Hopper's shapes (11 observations, 3 actions) in
episodes of 1,000. Networks, batches and numbers of samples are the defaults of offrl_jax; sac is
SAC with ten critics, each network of three layers. Settings that make the work alike:

  bc          cloning by squared error (offrl_jax: --config.policy=deterministic)
  cql         d3rlpy's multiplier of the penalty is off
  rebrac      LayerNorm in the critics
  bear, bcq   the behaviour model learns alongside; bear's has two layers of 256
              (--config.behavior_network=256x256) and its actor is past its warm-up

Other differences stay, such as the entropy term of d3rlpy's BEAR.

A step is what d3rlpy's `fit` does for one: it draws a batch from the replay buffer and calls
`update`, which makes tensors of it. Both are in the number, and `sampling_share` is the part of
the time that the drawing took; building, the first steps, progress bar, logging and saving are not.

Each algorithm is one line of JSON: the median and every repeat in updates per second (of critics,
where the actor is delayed), the seconds of a repeat, torch's threads and d3rlpy's settings.

Measure on an idle machine: beside several busy processes on two cores torch, whose threads wait for
one another, trained ten to a hundred times slower, which no median corrects.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import time
from typing import Any

import numpy as np

NUM_TRANSITIONS, EPISODE_LENGTH = 100_000, 1000
OBSERVATION_SIZE, ACTION_SIZE = 11, 3
NUM_WARMUP_UPDATES, NUM_REPEATS = 10, 5
DEEP = {"hidden_units": [256, 256, 256]}
BCQ_NETWORK, CVAE = {"hidden_units": [400, 300]}, {"hidden_units": [750, 750]}

# d3rlpy's config; its settings; its encoders that are not of two layers of 256
ALGORITHMS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bc": ("BCConfig", {"batch_size": 256}, {}),
    "td3_bc": ("TD3PlusBCConfig", {}, {}),
    "iql": ("IQLConfig", {}, {}),
    "awac": ("AWACConfig", {"batch_size": 256}, {}),
    "crr": ("CRRConfig", {"batch_size": 256}, {}),
    "rebrac": (
        "ReBRACConfig",
        {"batch_size": 256},
        {"actor": DEEP, "critic": DEEP | {"use_layer_norm": True}},
    ),
    "cql": ("CQLConfig", {"alpha_learning_rate": 0.0}, {}),
    "sac": ("SACConfig", {"n_critics": 10}, {"actor": DEEP, "critic": DEEP}),
    "bear": ("BEARConfig", {"warmup_steps": 0}, {}),
    "bcq": (
        "BCQConfig",
        {"n_action_samples": 10},
        {"actor": BCQ_NETWORK, "critic": BCQ_NETWORK, "imitator": CVAE},
    ),
}


class Parser(argparse.ArgumentParser):
    """Tells bad input in one line, like the other commands."""

    def error(self, message: str):
        self.exit(2, f"error: {message}\n")


def main() -> None:
    parser = Parser(
        prog="python -m experiments.benchmarks.d3rlpy_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--algorithms",
        type=_algorithms,
        default=list(ALGORITHMS),
        metavar="NAME,NAME",
        help=f"of {','.join(ALGORITHMS)} (default: all)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="to measure each algorithm for (default: 5)",
    )
    args = parser.parse_args()
    try:
        import d3rlpy
        import torch
    except ImportError as error:
        parser.error(f"d3rlpy cannot be imported ({error}); pip install d3rlpy where this runs")
    with contextlib.redirect_stdout(sys.stderr):  # d3rlpy describes the dataset
        d3rlpy.seed(0)
        dataset = d3rlpy.dataset.MDPDataset(**random_dataset())
    for name in args.algorithms:
        config = _config(name)
        row = {"peer": "d3rlpy", "version": d3rlpy.__version__, "algorithm": name}
        row["threads"] = torch.get_num_threads()
        row |= measured(config, dataset, args.seconds) | {"settings": _settings(config)}
        print(json.dumps(row), flush=True)


def random_dataset() -> dict[str, np.ndarray]:
    """The arguments of `MDPDataset`, float32 but for the ends; actions are within ±0.99."""
    rng = np.random.default_rng(0)
    sizes = {"observations": OBSERVATION_SIZE, "actions": ACTION_SIZE, "rewards": 1}
    arrays = {
        name: rng.standard_normal((NUM_TRANSITIONS, size), np.float32)
        for name, size in sizes.items()
    }
    arrays["actions"] = 0.99 * np.tanh(arrays["actions"])
    ends = np.arange(1, NUM_TRANSITIONS + 1) % EPISODE_LENGTH == 0
    return arrays | {"terminals": np.zeros(NUM_TRANSITIONS, bool), "timeouts": ends}


def measured(config: Any, dataset: Any, seconds: float) -> dict[str, Any]:
    """Speed of `config`'s algorithm on `dataset`, in repeats of an equal part of `seconds`."""
    algorithm = config.create(device="cpu")
    algorithm.build_with_dataset(dataset)
    for _ in range(NUM_WARMUP_UPDATES):
        algorithm.update(dataset.sample_transition_batch(config.batch_size))
    rates, lengths, sampling = [], [], 0.0
    for _ in range(NUM_REPEATS):
        count, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds / NUM_REPEATS:
            before = time.perf_counter()
            batch = dataset.sample_transition_batch(config.batch_size)
            sampling += time.perf_counter() - before
            algorithm.update(batch)
            count, elapsed = count + 1, time.perf_counter() - start
        rates.append(count / elapsed)
        lengths.append(elapsed)
    return {
        "updates_per_second": round(statistics.median(rates), 2),
        "repeats": [round(rate, 2) for rate in rates],
        "seconds_per_repeat": round(statistics.median(lengths), 2),
        "sampling_share": round(sampling / sum(lengths), 3),
    }


def _config(name: str) -> Any:
    from d3rlpy import algos
    from d3rlpy.models import VectorEncoderFactory

    config, settings, encoders = ALGORITHMS[name]
    config_type = getattr(algos, config)
    suffix = "encoder_factory"
    factories = {
        field.name: VectorEncoderFactory(**encoders.get(field.name.removesuffix(f"_{suffix}"), {}))
        for field in dataclasses.fields(config_type)
        if field.name.endswith(suffix)
    }
    return config_type(**settings, **factories)


def _settings(config: Any) -> dict[str, Any]:
    """Its numbers and names, and what its encoders have."""
    settings = {}
    for name, value in dataclasses.asdict(config).items():
        if name.endswith("encoder_factory"):
            settings[name] = {option: given for option, given in value.items() if given}
        elif isinstance(value, int | float | str):
            settings[name] = value
    return settings


def _algorithms(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ALGORITHMS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(ALGORITHMS)}")
    return names


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")


if __name__ == "__main__":
    main()
