"""Chooses among the policies of trained runs, offline by a score or online by a bandit.

  offrl select runs/iql runs/cql
  offrl select runs/* --checkpoints=all --by=initial_value --output=runs/choice
  offrl select runs/* --by=online --num_episodes=60

Prints the policies with every score, what they truly returned where their runs rolled them out, how
well each score foretold that, and the choice with the environment episodes that it has seen: none
where a score of the data decides. Writes selection.json and scores.png to --output.

Scores, of which the highest is the best: fqe, fitted Q evaluation, mean Q(s0, pi(s0)) over the
data's initial states; initial_value, the same by the run's own critic; soft_opc, its mean Q over
transitions of successful episodes less that over all; td_error, its mean squared TD error, negated.
The first two are discounted returns in the environment's rewards, whatever the runs made of these.

Runs may be of several algorithms, but must have learnt from the same data.
"""

import time

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_algorithm
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section

SCORES = "fqe", "initial_value", "soft_opc", "td_error"
PASSED_ON = (  # flags that are arguments of `select`
    *("by", "scores", "checkpoints", "num_episodes", "seed", "success_quantile"),
    *("num_steps", "discount", "num_transitions"),
    *("dataset", "observation_keys", "clip_actions", "trust_dataset_env"),
)

with section("choice"):
    flags.DEFINE_enum("by", "fqe", (*SCORES, "online"), "what decides")
    flags.DEFINE_list("scores", [*SCORES], f"what to compute beside that, of {', '.join(SCORES)}")
    flags.DEFINE_enum(
        "checkpoints", "last", ("last", "all"), "of every run: the newest or all it kept"
    )
    flags.DEFINE_integer(
        "num_episodes", None, "that --by=online may play in all, one a policy at least", 1
    )
    define("seed", "algorithm")
    flags.DEFINE_float(
        "success_quantile",
        0.9,
        "soft OPC: episodes whose return reaches this quantile, and is not the least, succeed",
        0,
        1,
    )
with section("fitted Q evaluation"):
    flags.DEFINE_integer("num_steps", 5000, "updates of FQE", 1)
    flags.DEFINE_float("discount", 0.99, "γ of FQE", 0.0, 0.9999)
    flags.DEFINE_integer(
        "num_transitions", 200_000, "of the data, for FQE: a sample if it has more", 1
    )
with section("data"):
    flags.DEFINE_string("dataset", None, "what the runs learnt from, where it has moved since")
    define("observation_keys", "clip_actions", "trust_dataset_env")
with section("output"):
    flags.DEFINE_string("output", None, "folder of the results (default: a new one under runs/)")


def main(*run_dirs: str) -> None:
    output = FLAGS.output or f"runs/select-{time.strftime('%Y%m%d-%H%M%S')}"
    found = orl.select(
        run_dirs,
        algorithm=FLAGS.algorithm and find_algorithm(FLAGS.algorithm),
        output=output,
        **{name: FLAGS[name].value for name in PASSED_ON},
    )
    print(f"{found}\n")
    seconds = found.results["seconds_of_scores"]
    print(f"scores took {seconds:.3g} s; {output}/selection.json")


if __name__ == "__main__":
    launch(main)
