"""Lists and summarises datasets, writes one as shards, or gives maze data a fixed goal.

  offrl datasets list
  offrl datasets show hopper_medium-v2.hdf5 --html=hopper.html --json=hopper.json
  offrl datasets shard hopper_medium-v2.hdf5 --output=hopper.shards
  offrl datasets relabel antmaze-diverse.hdf5 --goal_cell=1,1 --output=antmaze-fixed.hdf5

A dataset's name is what offrl train takes as --dataset. `show` prints its card. `shard` writes a
folder whose path is a dataset's name too; training can leave its rows on the disk. `relabel` gives
maze data with many goals a single one, as in D4RL's ant mazes, and records the task to evaluate in:
reaching the goal gives 1 and ends an episode. Starts and goals vary by 0.025 of a cell to either
side (0.1 m in an ant maze), as D4RL's starts do.
"""

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section

with section("show"):
    flags.DEFINE_string("html", None, "file to write the card to as one HTML page")
    flags.DEFINE_string("json", None, "file to write the card's numbers to")
with section("shard"):
    flags.DEFINE_integer("rows_per_shard", 1_000_000, "transitions in each shard but the last", 1)
with section("relabel"):
    flags.DEFINE_list("goal_cell", ["1", "1"], "row and column of the goal in the map, from 0")
    flags.DEFINE_list("start_cell", None, "where evaluation starts (default: any other cell)")
    flags.DEFINE_integer("max_episode_steps", None, "time limit (default: the environment's)", 1)
with section("data"):
    define("env_id", "observation_keys", "clip_actions")
with section("output"):
    flags.DEFINE_string(
        "output", None, "what `shard` and `relabel` write: a .shards folder, a new HDF5 file"
    )

READING = "env_id", "observation_keys", "clip_actions"
OWN_FLAGS = {
    "list": (),
    "show": ("html", "json", *READING),
    "shard": ("output", "rows_per_shard", *READING),
    "relabel": ("output", "goal_cell", "start_cell", "max_episode_steps", "env_id"),
}


def main(*words: str) -> None:
    command, *names = words or ("nothing",)
    if command not in OWN_FLAGS or len(names) != (command != "list"):
        raise orl.InputError(
            f"datasets {' '.join(words) or 'alone'} is not a command; give `list`, `show NAME`, "
            "`shard NAME` or `relabel FILE`"
        )
    _check_flags(command)
    from offrl_jax.cli.datasets import relabel, show

    match command:
        case "list":
            print(show.listing())
        case "show":
            show.show(*names)
        case "shard":
            show.shard(*names)
        case "relabel":
            relabel.relabel(*names)


def _check_flags(command: str) -> None:
    """Raises InputError where a flag of another command is given."""
    taken = OWN_FLAGS[command]
    for other, names in OWN_FLAGS.items():
        for name in names:
            if FLAGS[name].present and name not in taken:
                takes = ", ".join(f"--{own}" for own in taken) or "no flag of its own"
                raise orl.InputError(f"--{name} belongs to `{other}`; `{command}` takes {takes}")


if __name__ == "__main__":
    launch(main)
