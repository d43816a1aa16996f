"""Measures how fast the algorithms train, on random data of the usual tasks' shapes.

  python -m experiments.benchmarks.speed --quick
  python -m experiments.benchmarks.speed --algorithms=iql,cql --num_seeds=1,4
  python -m experiments.benchmarks.speed --compared --shapes=hopper --num_settings=1

Prints a Markdown table, and leaves every number behind it as JSON and a figure in the output
folder. Each case trains fresh states in the algorithm's last phase, at its default settings with a
batch of 256, by the same `learn` as any run. Adroit's shape is the pen's. It needs jax, flax,
optax, chex and numpy alone; the figure needs matplotlib.
"""

import difflib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.benchmarks import measurements
from experiments.benchmarks.matrix_products import dominant_product, fastest
from experiments.benchmarks.minimum_operations import MINIMUM
from offrl_jax import devices
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.algorithms.base import Algorithm, phases_of
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.files import write_json
from offrl_jax.networks.modules import MLP
from offrl_jax.networks.serialization import settings_to_json
from offrl_jax.reports import speed
from offrl_jax.runs.messages import say
from offrl_jax.runs.outcomes import is_out_of_memory
from offrl_jax.runs.provenance import describe_environment
from offrl_jax.types import InputError

SHAPES = {"hopper": (11, 3), "antmaze": (29, 8), "adroit": (46, 24)}  # observations, actions
BATCH_SIZE = 256
COMPARED = {  # where CORL, d3rlpy, Unifloral and JAX-CORL were measured at other than our defaults
    "bc": {"policy": "deterministic"},
    "sac": {
        "num_critics": 10,
        "actor_network": MLP((256, 256, 256)),
        "critic_network": MLP((256, 256, 256)),
    },
    "bcq": {"batch_size": 100},
    "bear": {"behavior_network": MLP((256, 256))},
}
EXPLANATION = """\
updates/s: of all seeds and settings together, the median of the repeats. compile: tracing, \
lowering and compiling, once. memory: the compiled program's by XLA's plan (arguments, outputs and \
temporaries, less what shares memory). device peak: the device's own word on the process so far, \
where the case raised it. operations / minimum: floating-point operations of the compiled update's \
matrix products over those that its objective cannot do without. of the product's rate: operations \
a second of the update's matrix products over those of XLA's own product of the shape that \
dominates them, alone or as often at once as all seeds and settings do it, whichever is faster, \
timed before every repeat."""

flags.DEFINE_list("algorithms", list(ALGORITHMS), f"of {', '.join(ALGORITHMS)}")
flags.DEFINE_list("num_seeds", None, "seeds at once (default: 1,4,16 and on a GPU 64)")
flags.DEFINE_list("num_settings", None, "learning rates at once (default: 1,4)")
flags.DEFINE_list("shapes", None, f"of the data, of {', '.join(SHAPES)} (default: all)")
flags.DEFINE_integer("num_transitions", 100_000, "of the random data", 1)
flags.DEFINE_bool("compared", False, "settings at which other libraries have been measured")
flags.DEFINE_bool("quick", False, "three repeats; by default hopper, one seed and one setting")
flags.DEFINE_bool("json", False, "print a line of JSON a case; no folder unless --out is given")
flags.DEFINE_string("out", None, "folder of the results (default: a new one under benchmarks/)")


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are measured
    algorithms = [ALGORITHMS[name] for name in _known("algorithms", FLAGS.algorithms, ALGORITHMS)]
    shapes = FLAGS.shapes or (["hopper"] if FLAGS.quick else list(SHAPES))
    _known("shapes", shapes, SHAPES)
    num_seeds = _counts("num_seeds", [1] if FLAGS.quick else [1, 4, 16])
    devices.use_cores(*num_seeds)
    if jax.default_backend() == "gpu" and not (FLAGS.num_seeds or FLAGS.quick):
        num_seeds.append(64)
    num_settings = _counts("num_settings", [1] if FLAGS.quick else [1, 4])
    runs = [(seeds, settings) for settings in num_settings for seeds in num_seeds]
    out = _output()
    num_repeats = 3 if FLAGS.quick else 5
    record = {
        "environment": describe_environment(sys.argv),
        "protocol": {
            "num_transitions": FLAGS.num_transitions,
            "num_repeats": num_repeats,
            "seconds_per_repeat": measurements.SECONDS,
            "compared": FLAGS.compared,
        },
        "cases": [],
    }
    total = len(shapes) * len(algorithms) * len(runs)
    for shape in shapes:
        for algorithm in algorithms:
            for case in _cases(shape, algorithm, runs, num_repeats):
                record["cases"].append(case)
                say(f"{len(record['cases'])} of {total}: {_sentence(case)}")
                if FLAGS.json:
                    print(json.dumps(case), flush=True)
                if out:
                    write_json(out / "benchmark.json", record)
    text = f"{_title(record)}\n\n{speed.markdown(record['cases'])}\n\n{EXPLANATION}"
    if not FLAGS.json:
        print(text)
    if out:
        try:
            speed.plot(out / "benchmark.png", record["cases"], _title(record))
        except ImportError:
            say("the figure is left out, as it needs matplotlib; pip install matplotlib")
        say(f"the results are in {out}")


def _cases(
    shape: str,
    algorithm: Algorithm,
    runs: Sequence[tuple[int, int]],
    num_repeats: int,
) -> Iterator[dict[str, Any]]:
    """What was measured of an algorithm at one shape, with each number of seeds and settings."""
    own = {"batch_size": BATCH_SIZE} | (COMPARED.get(algorithm.name, {}) if FLAGS.compared else {})
    config = algorithm.Config(**own)
    discrete = algorithm.discrete(config)
    dataset = measurements.random_dataset(*SHAPES[shape], FLAGS.num_transitions, discrete=discrete)
    operations = measurements.update_operations(algorithm, config, dataset)
    update = phases_of(algorithm, config)[-1].updates[-1]  # where actors wait, one of both
    product = dominant_product(update, *measurements.update_arguments(algorithm, config, dataset))
    facts = {
        "shape": shape,
        "observation_size": dataset.spec.observation_size,
        "action_size": dataset.spec.action_size,
        "algorithm": algorithm.name,
        "config": settings_to_json(config),
        "operations": operations,
    }
    if algorithm.name in MINIMUM:
        minimum = MINIMUM[algorithm.name](config, dataset.spec)
        facts |= {"minimum_operations": minimum, "operations_over_minimum": operations / minimum}
    for num_seeds, num_settings in runs:
        case = facts | {"num_seeds": num_seeds, "num_settings": num_settings}
        try:
            yield case | measurements.measure(
                algorithm,
                measurements.settings(config, num_settings),
                dataset,
                measurements.run_keys(num_seeds, num_settings),
                operations=operations,
                product=fastest(product, num_seeds * num_settings),
                num_repeats=num_repeats,
            )
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            yield case | {"failed": "out of memory"}


def _sentence(case: dict[str, Any]) -> str:
    about = f"{case['algorithm']}, {case['shape']}, {case['num_seeds']} × {case['num_settings']}"
    if "failed" in case:
        return f"{about}: {case['failed']}"
    return f"{about}: {case['updates_per_second']:,.1f} updates/s"


def _title(record: dict[str, Any]) -> str:
    about, protocol = record["environment"], record["protocol"]
    commit, _, dirty = (about["commit"] or "unknown").partition("-")
    return (
        f"{about['cpu']}, {about['num_threads']} cores, {len(about['devices'])} × "
        f"{about['device_kind']}; jax {about['versions']['jax']}, commit {commit[:12]}"
        f"{' changed since' * bool(dirty)}, {about['started'][:10]}; {protocol['num_repeats']} "
        f"repeats of {protocol['seconds_per_repeat']} s or more"
    )


def _known(flag: str, names: Sequence[str], known: dict[str, Any]) -> Sequence[str]:
    if not names:
        raise InputError(f"{flag} is empty; give some of {', '.join(known)}")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{flag} has no {name!r}{hint} (there are {', '.join(known)})")
    return names


def _counts(flag: str, default: list[int]) -> list[int]:
    given = FLAGS[flag].value
    if not given:
        return default
    if not all(count.isdecimal() and int(count) > 0 for count in given):
        raise InputError(f"{flag}={','.join(given)} are not all positive numbers; give some as 1,4")
    return [int(count) for count in given]


def _output() -> Path | None:
    """The folder of the results, made; None if there is to be none.

    Raises:
      InputError: if it cannot be made, or holds results already.
    """
    if FLAGS.json and not FLAGS.out:
        return None
    out = Path(FLAGS.out or f"benchmarks/{time.strftime('%Y%m%d-%H%M%S')}")
    if (out / "benchmark.json").exists():
        raise InputError(f"out={out} holds a benchmark already; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out={out} cannot be made ({error}); give another folder") from error
    return out


if __name__ == "__main__":
    launch(main)
