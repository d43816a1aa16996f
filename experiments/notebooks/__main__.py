"""Runs the lecture's notebooks without Jupyter and keeps their figures.

  python -m experiments.notebooks
  python -m experiments.notebooks safe_exploration --output=figures

All of them if none is named; NAME.png goes to the output folder.
"""

import difflib
import time
from pathlib import Path

from absl import flags

from experiments.notebooks import FOLDER, NAMES, execute
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.types import InputError

flags.DEFINE_string("output", "runs/lecture", "folder of the figures")


def main(*words: str) -> None:
    for name in words:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
            raise InputError(f"there is no notebook {name!r}; {hint}")
    output = Path(FLAGS.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output} cannot be made ({error}); give another") from error
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for name in words or NAMES:
        clock = time.perf_counter()
        with plt.rc_context():
            names = execute(FOLDER / f"{name}.py")
            names["figure"].savefig(output / f"{name}.png", dpi=130)
            plt.close("all")
        print(f"{output / name}.png, {time.perf_counter() - clock:.1f} s\n", flush=True)


if __name__ == "__main__":
    launch(main)
