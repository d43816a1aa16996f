"""The command `offrl`: `offrl COMMAND [--flag=value …]`."""

import difflib
import importlib
import importlib.metadata
import sys

from offrl_jax.cli.command_line import ERROR_CODE, launch
from offrl_jax.runs.messages import say

COMMANDS = {
    "train": "train an algorithm on a dataset, with several seeds in one program",
    "sweep": "train every setting of a grid",
    "evaluate": "roll out the policies of trained runs and print their scores",
    "report": "write the report of a study from its runs",
    "compare": "compare algorithms over the seeds of their runs",
    "select": "choose among trained policies, offline or with a few episodes",
    "export": "write a policy as a program that JAX runs without this package",
    "collect": "record a dataset from policies or random actions",
    "datasets": "list, show, shard and relabel datasets",
    "new-algorithm": "write an algorithm of your own to start from",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(_usage())
    elif name == "--version":
        print(f"offrl-jax {importlib.metadata.version('offrl-jax')}")
    elif name in COMMANDS:
        module = importlib.import_module(f"offrl_jax.cli.{name.replace('-', '_')}")
        sys.argv[:2] = [module.__name__]
        launch(module.main)
    else:
        near = difflib.get_close_matches(name, [*COMMANDS, "--help", "--version"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        say(f"error: there is no command {name!r}; {hint}")
        sys.exit(ERROR_CODE)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    usage, more = "usage: offrl COMMAND [--flag=value ...]", "offrl COMMAND --help lists its flags."
    return f"{usage}\n\n{rows}\n\n{more}"


if __name__ == "__main__":
    main()
