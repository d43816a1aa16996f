"""Chooses among the policies of trained runs, offline by a score or online by a bandit.

  offrl select runs/iql runs/cql
  offrl select runs/* --checkpoints=all --by=initial_value --output=runs/choice
  offrl select runs/* --by=online --num_online_episodes=60

Prints the scores of every policy, its true return if its run evaluated it, how well each score
predicts true returns, and the choice with the number of environment episodes that it used: 0 for
offline scores. Writes selection.json and scores.png to --output.

The highest score is the best. fqe: fitted Q evaluation, mean Q(s0, pi(s0)) over the data's initial
states. initial_value: the same with the run's own critic. soft_opc: mean Q of that critic over
transitions of successful episodes, minus its mean over all transitions. td_error: its mean squared
TD error, negated. The first two are discounted returns in the environment's rewards, whatever
reward transform a run used.

Runs may be of several algorithms, but must have learnt from the same data.
"""

import time

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.algorithms import find_algorithm, find_networks
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section

SCORES = "fqe", "initial_value", "soft_opc", "td_error"
PASSED_ON = (  # flags that are arguments of `select`
    "by",
    "scores",
    "checkpoints",
    "num_online_episodes",
    "seed",
    "success_quantile",
    "fqe_num_steps",
    "fqe_discount",
    "fqe_num_transitions",
    "dataset",
    "observation_keys",
    "clip_actions",
    "trust_dataset_env",
)

with section("choice"):
    flags.DEFINE_enum("by", "fqe", (*SCORES, "online"), "what to choose by")
    flags.DEFINE_list("scores", [*SCORES], f"further scores to compute, of {', '.join(SCORES)}")
    flags.DEFINE_enum(
        "checkpoints", "last", ("last", "all"), "score the last checkpoint of each run, or all"
    )
    flags.DEFINE_integer(
        "num_online_episodes", None, "episodes for --by=online in all, at least one per policy", 1
    )
    define("seed", "algorithm", "networks")
    flags.DEFINE_float(
        "success_quantile",
        0.9,
        "soft OPC: an episode succeeds if its return reaches this quantile and is not the lowest",
        0,
        1,
    )
with section("fitted Q evaluation"):
    flags.DEFINE_integer("fqe_num_steps", 5000, "updates of FQE", 1)
    flags.DEFINE_float("fqe_discount", 0.99, "γ of FQE", 0.0, 0.9999)
    flags.DEFINE_integer(
        "fqe_num_transitions", 200_000, "transitions for FQE at most; larger data are sampled", 1
    )
with section("data"):
    flags.DEFINE_string("dataset", None, "new name of the runs' dataset, if it has moved")
    define("observation_keys", "clip_actions", "trust_dataset_env")
with section("output"):
    flags.DEFINE_string("output", None, "folder of the results (default: a new one under runs/)")


def main(*run_dirs: str) -> None:
    output = FLAGS.output or f"runs/select-{time.strftime('%Y%m%d-%H%M%S')}"
    found = orl.select(
        run_dirs,
        algorithm=FLAGS.algorithm and find_algorithm(FLAGS.algorithm),
        networks=find_networks(FLAGS.networks),
        output=output,
        **{name: FLAGS[name].value for name in PASSED_ON},
    )
    print(f"{found}\n")
    seconds = found.results["seconds_of_scores"]
    print(f"scores took {seconds:.3g} s; {output}/selection.json")


if __name__ == "__main__":
    launch(main)
