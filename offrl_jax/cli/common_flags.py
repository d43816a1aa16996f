"""Flags that several commands take, each defined once: one name, one meaning."""

from absl import flags

flags.disclaim_key_flags()  # they belong to the command that defines them

DATASETS = (
    "pointmaze/{umaze,medium,large}[-N], {cartpole,lunarlander,acrobot}/{random,medium,expert,"
    "mixed,narrow}[-N], a Minari id, or the path of a D4RL-layout HDF5, an npz or a .shards folder"
)
COMMON = {
    "algorithm": (
        flags.DEFINE_string,
        None,
        "MODULE:NAME of your own algorithm, for the runs that it trained",
    ),
    "clip_actions": (
        flags.DEFINE_bool,
        False,
        "clip actions outside their bounds, counted in a warning",
    ),
    "env_id": (
        flags.DEFINE_string,
        None,
        "registered environment, if the data name none or you want another",
    ),
    "networks": (
        flags.DEFINE_list,
        [],
        "your own network classes in the runs, as MODULE:CLASS, comma-separated",
    ),
    "observation_keys": (
        flags.DEFINE_list,
        [],
        "entries of a Dict observation that form the data's observations, in order",
    ),
    "seed": (flags.DEFINE_integer, 0, "the seed, or the first of several", 0),
    "seed_index": (flags.DEFINE_integer, 0, "which of a run's seeds, counted from 0", 0),
    "trust_dataset_env": (
        flags.DEFINE_bool,
        False,
        "run the code that the data name for an unregistered environment",
    ),
}


def define(*names: str) -> None:
    """Defines flags of these names for the calling command."""
    for name in names:
        definition, *arguments = COMMON[name]
        definition(name, *arguments)
