"""Exports a trained policy as a program that needs only JAX, not this package.

  offrl export runs/my-run
  offrl export runs/my-run --seed_index=2
  offrl export runs/my-run --output=policy.jaxexport

The program maps raw float32 observations (b, O), for any b, to actions (b, A) in the environment's
bounds, or to indices (b,) of discrete actions. It runs on a CPU, an NVIDIA GPU or a TPU:

  program = jax.export.deserialize(pathlib.Path("policy.jaxexport").read_bytes())
  actions = program.call(observations)
"""

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_networks, own_algorithm
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section

with section("policy"):
    define("seed_index", "algorithm", "networks")
with section("output"):
    flags.DEFINE_string("output", None, "file (default: policy.jaxexport in the run's directory)")


def main(*words: str) -> None:
    if len(words) != 1:
        raise orl.InputError(f"{len(words)} runs are given; give the directory of one")
    output = orl.export(
        words[0],
        FLAGS.output,
        seed_index=FLAGS.seed_index,
        algorithm=own_algorithm(FLAGS.algorithm, words[0]),
        networks=find_networks(FLAGS.networks),
    )
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    launch(main)
