"""The lecture, page by page: notebooks as plain Python (jupytext's percent format), and what runs
them without Jupyter.

A notebook has one cell tagged "parameters" with its sizes, draws `figure`, and ends by printing
`conclusion`, a sentence whose claims it has asserted.
"""

import ast
import re
from pathlib import Path
from typing import Any

from offrl_jax.types import InputError

FOLDER = Path(__file__).parent
NAMES = (  # in the lecture's order
    "q_learning_from_random_data",
    "simple_experiment",
    "support_and_density",
    "policy_constraints",
    "conservative_lower_bounds",
    "overestimation",
    "safe_exploration",
)
PARAMETERS = '# %% tags=["parameters"]'  # as papermill finds them


def execute(path: Path, **parameters: Any) -> dict[str, Any]:
    """Runs a notebook's cells in order and returns its names.

    Args:
      path: The notebook.
      **parameters: Take the place of what the tagged cell says.

    Raises:
      InputError: If not exactly one cell is tagged, or it has no such parameter.
    """
    cells = re.split(r"^(?=# %%)", path.read_text(), flags=re.MULTILINE)
    tagged = [cell for cell in cells if cell.startswith(PARAMETERS)]
    if len(tagged) != 1:
        raise InputError(
            f"{path.name} has {len(tagged)} cells that begin with {PARAMETERS}; tag one"
        )
    known = [
        node.id
        for node in ast.walk(ast.parse(tagged[0]))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    if unknown := set(parameters) - set(known):
        raise InputError(f"{path.name} has no parameter {min(unknown)}; it has {', '.join(known)}")
    names, line = {"__name__": path.stem}, 0
    for cell in cells:
        exec(compile("\n" * line + cell, path, "exec"), names)  # errors name the file's lines
        line += cell.count("\n")
        if cell in tagged:
            names |= parameters
    return names
